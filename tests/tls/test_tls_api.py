"""The verbs as functions: imported from one place, when they are used."""

import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

from fanfold.tls import api


@pytest.mark.parametrize("name", api.__all__)
def test_each_is_there(name: str) -> None:
    """Every name is a function or a class with a docstring, and no module of the same name."""
    if name in ("Server", "probe"):
        pytest.importorskip("OpenSSL", reason="the extra 'tls' is not installed")
    found = getattr(api, name)
    assert callable(found)
    assert found.__doc__


def test_they_have_the_arguments_of_their_commands() -> None:
    """What a command can be asked for, its function can be asked for, by the same word."""
    from fanfold.tls import cli

    for command, function in ((cli.sizes, api.sizes), (cli.model, api.model), (cli.report, api.report)):
        shown_only = {"slots", "json", "curve", "walls", "like_article"}
        renamed = {"scheme": "schemes", "out": "folder"}
        asked = {renamed.get(name, name) for name in signature(command).parameters} - shown_only
        assert asked <= set(signature(function).parameters)
    analyzed = {*signature(cli.analyze).parameters} - {"json", "quantile"}
    assert analyzed <= set(signature(api.analyze).parameters)


def test_another_name_is_an_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'size'"):
        _ = api.size


def test_what_is_not_used_is_not_imported() -> None:
    """Counting bytes takes neither OpenSSL nor matplotlib, and no table is opened."""
    code = (
        "import sys; from fanfold.tls.api import model, sizes; sizes(); model();"
        "print({'OpenSSL', 'matplotlib', 'pyroute2', 'lance'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_they_give_what_their_commands_show(tmp_path: Path) -> None:
    """Bytes of a scheme, and the rows of an experiment; all of them run in the documentation (tests/test_docs.py)."""
    (row,) = api.sizes(["ML-DSA-44"], profile="2021", link="rtt=50ms,down=20Mbit").rows
    assert (row.handshake.name, row.first_flight) == ("ML-DSA-44", 19_277)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("key,role,n,prefix,handshake_ms\na,control,3,192.0.2.0/24,10\na,live,3,192.0.2.0/24,12\n")
    assert api.analyze(str(pairs)).rows == 2
