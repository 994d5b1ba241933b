"""What a client accepts: how many certificates, how many bytes of them, and which schemes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fanfold.errors import UsageError
from fanfold.tls.cells import SMALLEST_DUMMY
from fanfold.tls.pki import Credentials
from fanfold.tls.probe import chains
from fanfold.tls.probe.client import Command
from fanfold.tls.probe.search import TRIES, Answer, Limit, Outcome, Search
from fanfold.tls.zoo import Zoo, load

MOST_CERTIFICATES = 400
"""Certificates that are added, at most."""
LARGEST = 1 << 20
"""Bytes of the one that is added, at most."""

Kind = Literal["none", "count", "bytes", "both", "flaky"]
Notice = Callable[[str, Answer], None]


@dataclass(frozen=True)
class Row:
    """A scheme with a profile, and what the client does with it."""

    scheme: str
    profile: str
    certificates: int
    """Bytes of the certificates."""
    real: bool
    """Whether they are signed with the scheme; else they have its size, and are signed with ECDSA-P256."""
    outcome: Outcome | Literal["flaky"]
    answer: Answer | None = None
    """The answer to the smallest one that was not accepted, for all that were not."""


@dataclass(frozen=True)
class Probed:
    """What a client accepts."""

    command: tuple[str, ...]
    tls: str
    """The version that it agreed on."""
    plain: tuple[int, ...]
    """Bytes of each certificate of the plain chain."""
    count: Limit
    """Certificates added to the plain chain."""
    bytes: Limit
    """Bytes of one certificate added to it."""
    split: bool | None
    """Whether it accepts more bytes than that in two certificates; None if it was not asked."""
    rows: tuple[Row, ...]

    def message(self, count: int, size: int) -> int:
        """Bytes of the message with so many certificates added, each of so many bytes."""
        return chains.message([*self.plain, *[size] * count], self.tls)

    @property
    def most_certificates(self) -> int:
        """The longest list of certificates that was accepted."""
        return len(self.plain) + (self.count.most or 0)

    @property
    def most_bytes(self) -> int:
        """Bytes of the largest message of certificates that was accepted, with one certificate more."""
        return self.message(1, self.bytes.most) if self.bytes.most else self.message(0, 0)

    @property
    def limits_count(self) -> bool:
        """Whether it limits the number of certificates: it refuses one more although it accepts as many bytes."""
        refused = self.count.refused
        if not refused:
            return False
        return self.count.most is None or self.message(refused, SMALLEST_DUMMY) <= self.most_bytes

    @property
    def limits_bytes(self) -> bool:
        """Whether it limits the bytes."""
        return self.bytes.most is not None and self.bytes.refused is not None

    @property
    def one_certificate(self) -> bool:
        """Whether its limit of bytes is that of one certificate: it accepts more of them in two."""
        return bool(self.split)

    @property
    def kind(self) -> Kind:
        """The kind of limit that it has."""
        if self.count.flaky or self.bytes.flaky:
            return "flaky"
        if self.limits_count and self.limits_bytes:
            return "both"
        return "count" if self.limits_count else "bytes" if self.limits_bytes else "none"


def probe(
    command: Sequence[str],
    *,
    http: bool = False,
    timeout: float = 8.0,
    limits_only: bool = False,
    zoo: str | None = None,
    notice: Notice = lambda _what, _answer: None,
) -> Probed:
    """Find what a client accepts, by running it some 100 times against a server on the loopback interface.

    Args:
        command: Its command line, with the placeholders {host}, {port}, {url}, {ip} and {ca}.
        http: Whether it also has to send a request.
        timeout: Seconds that it has each time.
        limits_only: Whether the schemes of the zoo are left out.
        zoo: A file of more schemes and profiles.
        notice: Called after each run of the client with what was asked, and the answer.

    Raises:
        UsageError: The command cannot be run, or it does not accept a plain chain.
    """
    return _Probing(Command(tuple(command), http, timeout), load(zoo), notice).found(limits_only)


class _Probing:
    """A client under way."""

    def __init__(self, command: Command, zoo: Zoo, notice: Notice) -> None:
        self.command, self.zoo, self.notice = command, zoo, notice

    def found(self, limits_only: bool) -> Probed:
        plain = chains.added(self.zoo, 0)
        tls = self._accepts_plain(plain)
        count = Search(lambda count: self._added(count, SMALLEST_DUMMY), 1, MOST_CERTIFICATES).limit()
        size = Search(lambda size: self._added(1, size), SMALLEST_DUMMY, LARGEST).limit()
        return Probed(
            command=tuple(self.command.words),
            tls=tls,
            plain=tuple(plain.certificate_bytes),
            count=count,
            bytes=size,
            split=self._split(count, size),
            rows=() if limits_only else self._rows(),
        )

    def _ask(self, what: str, shown: Credentials) -> Answer:
        answer = self.command.ask(shown)
        self.notice(what, answer)
        return answer

    def _added(self, count: int, size: int) -> Answer:
        return self._ask(f"{count:,} more certificates of {size:,} B", chains.added(self.zoo, count, size))

    def _accepts_plain(self, plain: Credentials) -> str:
        """The version of TLS that is agreed on. Raises UsageError for a client that never accepts a plain chain."""
        for _ in range(TRIES):
            answer = self._ask("a plain chain", plain)
            if answer.outcome == "accepted":
                return answer.tls
        ended = f"{answer.by} {answer.alert}".strip()
        raise UsageError(
            f"The client does not accept a plain chain of {chains.PLAIN} either ({answer.outcome}, {ended}): "
            f"{answer.text or 'it wrote nothing'}\n"
            "Have it trust the file {ca}, connect to {url}, or to {host} or {ip} at {port}, and exit with 0 then."
        )

    def _split(self, count: Limit, size: Limit) -> bool | None:
        """Whether two certificates may have more bytes than one."""
        if size.refused is None or size.most is None or (count.most or 0) < 2:
            return None
        half = max(SMALLEST_DUMMY, size.refused // 2 + 4)
        return Search(lambda _: self._added(2, half), 1, 1).limit().most is not None

    def _rows(self) -> tuple[Row, ...]:
        """The schemes that we sign with, each by itself; the others together, by size alone."""
        groups: dict[str, list[chains.Shown]] = {}
        for one in chains.rows(self.zoo):
            groups.setdefault(one.scheme.name if one.real else "", []).append(one)
        return tuple(row for group in groups.values() for row in self._group(group))

    def _group(self, group: list[chains.Shown]) -> list[Row]:
        """Find up to which of these chains, the smallest first, a client goes."""

        def ask(number: int) -> Answer:
            one = group[number - 1]
            return self._ask(f"{one.scheme.name} with the profile {one.profile}", one.credentials)

        limit = Search(ask, 1, len(group)).limit()
        return [self._row(one, number, limit) for number, one in enumerate(group, 1)]

    def _row(self, one: chains.Shown, number: int, limit: Limit) -> Row:
        outcome: Outcome | Literal["flaky"] = "accepted"
        answer = None
        if number in limit.flaky:
            outcome = "flaky"
        elif number > (limit.most or 0) and limit.at_limit:
            outcome, answer = limit.at_limit.outcome, limit.at_limit
        return Row(one.scheme.name, one.profile, one.certificates, one.real, outcome, answer)
