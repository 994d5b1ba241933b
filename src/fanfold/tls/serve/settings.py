"""What a server is to do, from what its options say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fanfold.errors import UsageError
from fanfold.tls.serve import lab as labs
from fanfold.tls.serve.limits import Limits
from fanfold.tls.serve.names import Names
from fanfold.tls.serve.store import locked


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
    """The settings that options say; for a lab, its files are made.

    Args:
        store: The SQLite file to write to.
        control: The name without dummy certificates, such as 0.c.example.
        live: What follows the number of dummies in the other names, such as 1.example for 17.1.example.
        page: The name of the page; by default the live domain.
        cert: A file with certificates in PEM, the server's own first.
        key: A file with its private key in PEM.
        most: The largest number of dummies.
        port: Where to listen; 0 for any.
        hosts: Addresses to listen at; by default all of the machine, and for a lab those of localhost.
        per_minute: Connections a minute that a network may make; 0 for any number.
        asn: A table of networks, to store their numbers.
        lab: With an authority of its own, and names of localhost.

    Raises:
        UsageError: An option is wrong, or one is missing.
        StorageError: The files of a lab cannot be written, or a server has them.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port takes a number from 0 to 65535, not {port}.")
    if per_minute < 0:
        raise UsageError(f"--per-minute takes a number from 0 on, not {per_minute}.")
    if "" in hosts:
        raise UsageError("--host is empty. If it came from a shell variable, that variable is not set.")
    _check_store(store)
    limits = Limits(per_minute=per_minute)
    if lab:
        if cert or key:
            raise UsageError("--lab makes a certificate of its own. Leave out --cert and --key, or --lab.")
        names = Names.of(control or labs.CONTROL, live or labs.LIVE, page, most)
        with locked(store):  # the files of a server that runs stay as they are
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


def _check_store(store: Path) -> None:
    """Raise UsageError for a store that cannot be a file, before anything is written beside it."""
    try:
        is_something = store.exists()
    except OSError as error:
        raise UsageError(
            f"Cannot use --store {store}: {error.strerror}. Use a file in a folder of your own."
        ) from error
    if not store.name or (is_something and not store.is_file()):
        raise UsageError(f"--store takes the name of a file, such as exp.sqlite; {store} is not a file.")
    if not store.parent.is_dir():
        raise UsageError(f"The folder {store.parent} of --store does not exist. Make it first: mkdir -p {store.parent}")
