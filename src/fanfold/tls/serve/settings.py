"""What a server is to do, from what its options say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fanfold.errors import UsageError
from fanfold.tls.serve import lab as labs
from fanfold.tls.serve.limits import Limits
from fanfold.tls.serve.names import Names


@dataclass(frozen=True)
class Settings:
    """What a server is to do."""

    names: Names
    certificate: Path
    key: Path
    store: Path
    port: int = 8443
    hosts: Sequence[str] = ()
    """Addresses to listen at; all of the machine, if there is none."""
    limits: Limits = field(default_factory=Limits)
    asn: Path | None = None
    """A table of networks."""
    authority: Path | None = None
    """What clients must trust, in a lab."""


def settings(
    store: Path,
    control: str | None = None,
    live: str | None = None,
    page: str | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    most: int = 59,
    port: int = 8443,
    hosts: Sequence[str] = (),
    per_minute: int = Limits.per_minute,
    asn: Path | None = None,
    lab: bool = False,
) -> Settings:
    """The settings that options say. For a lab, its files are made. Raises UsageError, StorageError."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port takes a number from 0 to 65535, not {port}.")
    if per_minute < 0:
        raise UsageError(f"--per-minute takes a number from 0 on, not {per_minute}.")
    limits = Limits(per_minute=per_minute)
    if lab:
        if cert or key:
            raise UsageError("--lab makes a certificate of its own. Leave out --cert and --key, or --lab.")
        names = Names.of(control or labs.CONTROL, live or labs.LIVE, page, most)
        made = labs.lab(store.with_name(f"{store.name}-lab"), names)
        return Settings(
            names, made.certificate, made.key, store, port, hosts or labs.hosts(), limits, asn, made.authority
        )
    if not (control and live and cert and key):
        raise UsageError(
            "Serving needs names and a certificate: fanfold tls serve --control 0.c.example --live 1.example "
            f"--cert FILE --key FILE --store {store}. To try it on this machine: "
            f"fanfold tls serve --lab --store {store}"
        )
    return Settings(Names.of(control, live, page, most), cert, key, store, port, hosts, limits, asn)
