"""The zoo: signature schemes, with their sizes, their speeds, and what is known against them.

zoo.toml        schemes                                         each size with who has seen it
profiles.toml   profiles: which signatures a handshake has      mixes: which scheme makes which of them
--zoo FILE      more of each, or others of the same names
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from fanfold.errors import UsageError
from fanfold.tls.written import checked, content_of, line_of, path_of, tables_of

_CHECKED = ConfigDict(extra="forbid")
_Text = Annotated[str, Field(min_length=1)]
_Bytes = Annotated[int, Field(gt=0, le=1 << 24, strict=True)]
_Count = Annotated[int, Field(ge=0, le=100, strict=True)]
_Microseconds = Annotated[float, Field(gt=0, lt=1e12)]
_Named = TypeVar("_Named")

Status = Literal["standard", "draft", "onramp-3", "onramp-out", "historic", "classical"]


@dataclass(frozen=True, config=_CHECKED)
class Attack:
    """The best attack on a scheme, as far as a planner must know it."""

    verdict: Literal["broken", "weakened", "watch"]
    """`broken`: below its level. `weakened`: its level is still met."""
    source: _Text
    says: _Text


@dataclass(frozen=True, config=_CHECKED)
class Speed:
    """Microseconds per operation. Comparable with those of the same set only: one machine, one kind of code."""

    set: _Text
    by: Literal["measured", "published"]
    sign: _Microseconds
    verify: _Microseconds


@dataclass(frozen=True, config=_CHECKED)
class Scheme:
    """A signature scheme with its parameters."""

    name: _Text
    level: Annotated[int, Field(ge=0, le=5, strict=True)]
    """NIST's security category; 0 for schemes that a quantum computer breaks."""
    status: Status
    pk: _Bytes
    """Bytes of a public key, raw."""
    sig: _Bytes
    """Bytes of a signature: the fixed length, or the largest that has to be planned for."""
    sizes: Annotated[tuple[_Text, ...], Field(min_length=1)]
    """Who has seen these sizes: `ran:` what code gave, `pub:` what is published, `formula:` what was computed."""
    aliases: tuple[_Text, ...] = ()
    standard: str = ""
    version: str = ""
    sig_varies: bool = False
    single: bool = False
    """Whether one witness of the sizes is known to be the only one."""
    speed: tuple[Speed, ...] = ()
    attack: Attack | None = None
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Scheme":
        if len(self.sizes) < 2 and not self.single:
            raise ValueError("`sizes` has one witness: give a second one, or `single = true`")
        return self

    @property
    def is_broken(self) -> bool:
        """Whether an attack takes it below its level."""
        return self.attack is not None and self.attack.verdict == "broken"

    @property
    def slowest_signing(self) -> float | None:
        """Milliseconds to make a signature, in the slowest of the sets that have it."""
        return max((speed.sign / 1000 for speed in self.speed), default=None)


@dataclass(frozen=True, config=_CHECKED)
class Slot:
    """A place for signatures in a handshake, with the public keys that are sent for it."""

    name: _Text
    sigs: _Count
    pks: _Count
    online: bool = False
    """Whether its signature is made at every handshake."""


@dataclass(frozen=True, config=_CHECKED)
class Profile:
    """Which signatures and public keys a handshake carries."""

    about: str
    slots: tuple[Slot, ...] = ()
    base: str = ""
    """The profile that it differs from by `drop` and `drop_pks`."""
    drop: tuple[_Text, ...] = ()
    """Slots that are not there."""
    drop_pks: tuple[_Text, ...] = ()
    """Slots whose keys are not sent."""
    extra: Mapping[str, _Bytes] = Field(default_factory=dict)
    """Bytes of what is neither a signature nor a key."""

    @model_validator(mode="after")
    def _check(self) -> "Profile":
        if bool(self.slots) == bool(self.base):
            raise ValueError("it has either `slots` or a `base`")
        if len({slot.name for slot in self.slots}) < len(self.slots):
            raise ValueError("two of its `slots` have the same name")
        return self


@dataclass(frozen=True, config=_CHECKED)
class Mix:
    """Which scheme makes the signatures of which slot."""

    about: str
    profile: _Text
    slots: Mapping[str, _Text]


@dataclass(frozen=True, config=_CHECKED)
class _File:
    """What a file may have."""

    format: Literal[1] = 1
    updated: Any = None
    sources: Mapping[str, str] = Field(default_factory=dict)
    sets: Mapping[str, str] = Field(default_factory=dict)
    scheme: tuple[Scheme, ...] = ()
    profile: Mapping[str, Profile] = Field(default_factory=dict)
    mix: Mapping[str, Mix] = Field(default_factory=dict)


@plain_dataclass(frozen=True)
class Zoo:
    """Schemes, profiles and mixes by name."""

    schemes: Mapping[str, Scheme]
    profiles: Mapping[str, Profile]
    mixes: Mapping[str, Mix]

    def scheme(self, name: str) -> Scheme:
        """The scheme of this name or alias, in upper or lower case. Raises UsageError."""
        if found := self._by_any_name.get(name.lower()):
            return found
        also = {alias: scheme.name for alias, scheme in self._by_any_name.items()}
        return found_in(self.schemes, name, "signature scheme", also)

    @cached_property
    def _by_any_name(self) -> dict[str, Scheme]:
        names = {alias.lower(): scheme for scheme in self.schemes.values() for alias in scheme.aliases}
        return names | {scheme.name.lower(): scheme for scheme in self.schemes.values()}

    def profile(self, name: str) -> Profile:
        """The profile of this name, with slots of its own. Raises UsageError."""
        profile = found_in(self.profiles, name, "profile")
        if not profile.base:
            return profile
        base = self.profile(profile.base)
        slots = [slot for slot in base.slots if slot.name not in profile.drop]
        sent = [replace(slot, pks=0) if slot.name in profile.drop_pks else slot for slot in slots]
        return replace(profile, slots=tuple(sent), base="", extra={**base.extra, **profile.extra})

    def mix(self, name: str) -> Mix:
        """The mix of this name. Raises UsageError."""
        return found_in(self.mixes, name, "mix")


def found_in(
    things: Mapping[str, _Named], name: str, what: str, also: Mapping[str, str] = MappingProxyType({})
) -> _Named:
    """The thing of this name. Raises UsageError that names the nearest ones; `also`: other spellings of names."""
    if name in things:
        return things[name]
    lower = {**also, **{one.lower(): one for one in things}}
    near = dict.fromkeys(lower[one] for one in get_close_matches(name.lower(), lower, 3, 0.5))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Use one of: {', '.join(things)}."
    raise UsageError(f"'{name[:100]}' is not a known {what}. {hint}")


def load(file: str | None = None) -> Zoo:
    """fanfold's own zoo; a file adds to it, or replaces things of the same names. Raises UsageError for a bad file."""
    return _with(_own(), path_of(file)) if file else _own()


@cache
def _own() -> Zoo:
    here = Path(__file__)
    return _with(_with(Zoo({}, {}, {}), here.with_name("zoo.toml")), here.with_name("profiles.toml"))


def _with(zoo: Zoo, file: Path) -> Zoo:
    """The zoo with what is in a file."""
    content, text = content_of(file)
    tables_of(content, "scheme", file, text)
    found = checked(_File, content, file, text)
    if not (found.scheme or found.profile or found.mix):
        raise UsageError(f"{file} has no [[scheme]], no [profile.NAME] and no [mix.NAME], so it adds nothing.")
    more = Zoo(
        {**zoo.schemes, **_schemes(found, file, text)},
        {**zoo.profiles, **found.profile},
        {**zoo.mixes, **found.mix},
    )
    for name, profile in found.profile.items():
        with _blamed(file, text, ("profile", name, "base")):
            _check_base(more, name, profile)
        with _blamed(file, text, ("profile", name, "drop")):
            _check_drops(more, profile)
    for name, mix in found.mix.items():
        with _blamed(file, text, ("mix", name, "profile")):
            more.profile(mix.profile)
        with _blamed(file, text, ("mix", name, "slots")):
            _check_mix(more, mix)
    return more


def _schemes(found: _File, file: Path, text: str) -> dict[str, Scheme]:
    """The schemes of a file by their names. Raises UsageError for a name or alias that two of them have."""
    schemes: dict[str, Scheme] = {}
    taken: set[str] = set()
    for number, scheme in enumerate(found.scheme):
        names = {name.lower() for name in (scheme.name, *scheme.aliases)}
        if twice := names & taken:
            with _blamed(file, text, ("scheme", number, "name")):
                of = "" if scheme.name.lower() in twice else f", as '{min(twice)}'"
                raise UsageError(f"the scheme '{scheme.name}'{of} is in the file twice. Remove one.")
        taken |= names
        schemes[scheme.name] = scheme
    return schemes


@contextmanager
def _blamed(file: Path, text: str, place: Sequence[int | str]) -> Iterator[None]:
    """Say in a UsageError where in the file it is."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{file}, line {line_of(text, place)}: {error}") from error


def _check_base(zoo: Zoo, name: str, profile: Profile) -> None:
    """Raise UsageError for a profile whose base is not there, or that is its own base."""
    seen = {name}
    while profile.base:
        if profile.base in seen:
            raise UsageError(f"the profile '{name}' is its own base. Give it `slots`.")
        if profile.base not in zoo.profiles:
            raise UsageError(f"its base '{profile.base}' is not a known profile.")
        seen.add(profile.base)
        profile = zoo.profiles[profile.base]


def _check_drops(zoo: Zoo, profile: Profile) -> None:
    """Raise UsageError for a profile that leaves out what its base does not have."""
    if profile.base:
        slots = {slot.name: slot for slot in zoo.profile(profile.base).slots}
        for name in (*profile.drop, *profile.drop_pks):
            found_in(slots, name, f"slot of the profile {profile.base}")


def _check_mix(zoo: Zoo, mix: Mix) -> None:
    """Raise UsageError for a mix of slots or schemes that are not there."""
    slots = {slot.name: slot for slot in zoo.profile(mix.profile).slots}
    for slot, scheme in mix.slots.items():
        found_in(slots, slot, f"slot of the profile {mix.profile}")
        zoo.scheme(scheme)
