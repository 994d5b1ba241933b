"""What signatures and public keys add to a handshake, to the byte; and what that costs on a given link."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanfold.errors import UsageError
from fanfold.tls.network import Network
from fanfold.tls.probe.known import known
from fanfold.tls.simulate import extra_round_trips, handshake, walls
from fanfold.tls.zoo import Scheme, Zoo, found_in, load

FIXED = 2133
"""Bytes of a server's first flight with the profile 2021 that are neither signatures nor public keys.

Calibrated with TLS 1.3, X25519MLKEM768, and the chains of `pki.py`: real ones have first flights of 2,693 B (P-256),
19,285 B (ML-DSA-44) and 25,921 B (ML-DSA-65), of which this number makes 2,645, 19,277 and 25,891 B. Schemes differ in
what DER takes beside their keys and signatures. All are within 50 B, but for flights beyond 100 kB, whose heads of
records are not counted (133 B for UOV-Is-pkc).
"""
FRAMES = {"ocsp": 221, "intermediate": 200, "sct": 140}
"""Bytes of these that a profile without such a slot does not have: of the staple beside its signature, of the
intermediate certificate beside its signature and the key in it, and of the extension with two SCTs."""
BUDGET = 9000
"""Bytes of signatures and keys that the article would spend."""
CONTROL = "ECDSA-P256"
LARGEST_SIGNATURE = 16_384
"""Bytes of a signature that OpenSSL takes at most in CertificateVerify (openssl/openssl#6433)."""
CERTIFICATES_FIXED = 550
"""Bytes of the message with the certificates that are neither signatures nor keys: 542 to 582 in chains of `pki.py`."""
_SLOW = 5.0  # ms to sign at every handshake
_WHOSE = {"handshake": "leaf", "leaf": "intermediate"}
"""Whose public key is sent for the signatures of a slot."""


@dataclass(frozen=True)
class Part:
    """The signatures of a slot, and the keys that are sent for them."""

    slot: str
    scheme: Scheme
    signatures: int
    keys: int
    online: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.signatures * self.scheme.sig + self.keys * self.scheme.pk

    @property
    def whose(self) -> str:
        """Whose public key is sent."""
        return _WHOSE.get(self.slot, self.slot) if self.keys else ""


@dataclass(frozen=True)
class Handshake:
    """What a handshake carries of signatures and keys."""

    name: str
    profile: str
    parts: tuple[Part, ...]
    extra: Mapping[str, int]
    """Bytes of what is neither a signature nor a key."""

    @property
    def size(self) -> int:
        """Bytes of signatures, keys and extras."""
        return sum(part.size for part in self.parts) + sum(self.extra.values())

    @property
    def fixed(self) -> int:
        """Bytes of the first flight that are none of these."""
        slots = {part.slot for part in self.parts}
        return FIXED - sum(frame for slot, frame in FRAMES.items() if slot not in slots)

    @property
    def certificates(self) -> int:
        """Bytes of what the message with the certificates carries: all but the signatures made at every handshake."""
        return self.size - sum(part.signatures * part.scheme.sig for part in self.parts if part.online)

    @property
    def schemes(self) -> list[Scheme]:
        """Each of its schemes once."""
        return [*{part.scheme.name: part.scheme for part in self.parts}.values()]

    def warnings(self) -> list[str]:
        """What a planner should know: broken schemes, slow ones, and what clients refuse."""
        found = [
            f"{scheme.name} is {scheme.attack.verdict}: {scheme.attack.says} ({scheme.attack.source})"
            for scheme in self.schemes
            if scheme.attack
        ]
        for part in self.parts:
            if part.scheme.sig > LARGEST_SIGNATURE and part.online:
                found.append(f"OpenSSL refuses a handshake signature of more than {LARGEST_SIGNATURE:,} B")
            if part.online and (part.scheme.slowest_signing or 0) > _SLOW:
                found.append(f"{part.scheme.name} signs in {part.scheme.slowest_signing:,.0f} ms: for offline use only")
        if refusing := refusing_clients(self.certificates + CERTIFICATES_FIXED):
            listed = ", ".join(f"{client} (more than {most:,} B)" for client, most in refusing)
            found.append(f"its certificates are not accepted by {listed}")
        return found


@dataclass(frozen=True)
class Timed:
    """What a handshake takes with one initial window."""

    initcwnd: int
    ms: float
    slowdown: float
    """0.02 for 2 % more than the control takes."""
    extra_round_trips: int


@dataclass(frozen=True)
class Row:
    """A handshake with its sizes and its times."""

    handshake: Handshake
    more: int
    """Bytes beyond those of the control."""
    first_flight: int
    """Bytes of the server's first flight."""
    times: tuple[Timed, ...]

    @property
    def fits(self) -> bool:
        """Whether it is within the article's budget."""
        return self.handshake.size <= BUDGET


@dataclass(frozen=True)
class Sizes:
    """The answer of `sizes`."""

    profile: str
    network: Network | None
    rows: tuple[Row, ...]
    room: Mapping[int, int]
    """Bytes for signatures and keys before the first extra round trip, by the initial window."""


def refusing_clients(message: int) -> list[tuple[str, int]]:
    """The clients known not to accept a message of certificates of so many bytes, with the bytes that they accept.

    A client whose versions differ comes with its version.
    """
    limits: dict[str, dict[str, int | None]] = {}
    for one in known():
        versions = limits.setdefault(one.client, {})
        versions[one.version] = min(filter(None, (one.most_bytes, versions.get(one.version))), default=None)
    found = []
    for client, versions in limits.items():
        newest = {most: version for version, most in versions.items()}  # the last one of each limit
        for most, version in newest.items():
            if most and most < message:
                found.append((client if len(newest) == 1 else f"{client} {version}", most))
    return sorted(found, key=lambda one: one[1])


def sizes(
    schemes: Sequence[str] = (),
    *,
    profile: str = "2026",
    mix: Sequence[str] = (),
    link: str = "",
    initcwnd: Sequence[int] = (10, 30),
    base: int | None = None,
    zoo: str | None = None,
) -> Sizes:
    """Count the bytes of handshakes, and compute their times on a link.

    Args:
        schemes: Their names; without any, and without a mix, all that are not broken.
        profile: Which signatures a handshake has; a named mix has its own.
        mix: Mixes: each the name of one, or `handshake=ML-DSA-44,leaf=Falcon-512,...`.
        link: A network such as `rtt=50ms,down=20Mbit`; without one, no times.
        initcwnd: Initial windows, in segments.
        base: Bytes of the first flight that are neither signatures nor keys; by default those of the profile.
        zoo: A file of more schemes, profiles and mixes.

    Returns:
        A row for each handshake, the smallest first.

    Raises:
        UsageError: A name is not known, or a number is out of range.
    """
    if base is not None and not 0 <= base <= 1 << 24:
        raise UsageError(f"--base takes a number of bytes up to {1 << 24:,}, not {base}.")
    known = load(zoo)
    network = Network.parse(link) if link else None
    named = dict.fromkeys(known.scheme(name).name for name in schemes)  # each once, whichever spelling
    counted = [of_scheme(known, name, profile) for name in named]
    counted += [of_mix(known, text, profile) for text in dict.fromkeys(mix)]
    if not counted:
        counted = [of_scheme(known, scheme.name, profile) for scheme in known.schemes.values() if not scheme.is_broken]
    if len(profiles := {one.profile for one in counted}) == 1:
        (profile,) = profiles  # perhaps that of a mix
    windows = [(network or Network()).of_window(window) for window in dict.fromkeys(initcwnd)]
    rows = [_row(one, of_scheme(known, CONTROL, one.profile), base, windows if network else ()) for one in counted]
    fixed = base if base is not None else of_scheme(known, CONTROL, profile).fixed
    room = {window.initcwnd: walls(window, 1)[0] - fixed for window in windows}
    return Sizes(profile, network, tuple(sorted(rows, key=lambda row: row.handshake.size)), room)


def of_scheme(zoo: Zoo, name: str, profile: str) -> Handshake:
    """A handshake whose signatures are all of one scheme. Raises UsageError."""
    scheme = zoo.scheme(name)
    return _counted(zoo, scheme.name, profile, {slot.name: scheme for slot in zoo.profile(profile).slots})


def of_mix(zoo: Zoo, text: str, profile: str) -> Handshake:
    """A handshake of several schemes: a mix's name, or its slots with their schemes. Raises UsageError."""
    if "=" not in text:
        mix = zoo.mix(text)
        return _counted(zoo, text, mix.profile, {slot: zoo.scheme(name) for slot, name in mix.slots.items()})
    names = {slot.name: None for slot in zoo.profile(profile).slots}
    chosen: dict[str, Scheme] = {}
    for part in text.split(","):
        slot, _, scheme = (one.strip() for one in part.partition("="))
        found_in(names, slot, f"slot of the profile {profile}")
        if slot in chosen:
            raise UsageError(f"The mix '{text}' has two schemes for {slot}. Leave one of them out.")
        chosen[slot] = zoo.scheme(scheme)
    return _counted(zoo, text, profile, chosen)


def _counted(zoo: Zoo, name: str, profile: str, schemes: Mapping[str, Scheme]) -> Handshake:
    found = zoo.profile(profile)
    if lacking := [slot.name for slot in found.slots if slot.name not in schemes]:
        raise UsageError(f"The mix '{name}' has no scheme for {', '.join(lacking)}. Add: {lacking[0]}=SCHEME")
    parts = [Part(slot.name, schemes[slot.name], slot.sigs, slot.pks, slot.online) for slot in found.slots]
    return Handshake(name, profile, tuple(parts), found.extra)


def _row(counted: Handshake, control: Handshake, base: int | None, networks: Sequence[Network]) -> Row:
    """The sizes and the times of a handshake, beside those of a control."""
    size, other = ((one.fixed if base is None else base) + one.size for one in (counted, control))
    times = []
    for network in networks:
        seconds, usual = handshake(size, network), handshake(other, network)
        more = extra_round_trips(seconds, size, usual, other, network)
        times.append(Timed(network.initcwnd, seconds * 1000, seconds / usual - 1, more))
    return Row(counted, counted.size - control.size, size, tuple(times))
