"""Files of Prefetch of which only a part stands."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import mesa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import OS

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts import Fact, facts_of
from fanfold.evidence.facts.xpress import unpacked
from prefetch import packed, prefetch

MATERIAL = os.environ.get("FANFOLD_EVIDENCE_MATERIAL")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a Windows 10."""
    unpacker = shutil.which("7zz") or shutil.which("7z")
    if not MATERIAL or not unpacker:
        pytest.skip("set FANFOLD_EVIDENCE_MATERIAL to the folder of the real logs: see CONTRIBUTING.md")
    folder = tmp_path_factory.mktemp("prefetch")
    archive = Path(MATERIAL, "artifacts", "RathbunVM_W10Prefetch.7z")
    subprocess.run([unpacker, "x", "-y", f"-o{folder}", archive], check=True, stdout=subprocess.DEVNULL)
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*.pf"))[::6]}


def partly(name: str, data: bytes) -> tuple[list[Fact], str]:
    """The facts of a file up to what is damaged, and what is wrong."""
    found: list[Fact] = []
    try:
        found.extend(facts_of(name, data))
    except Unreadable as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("pack", [bytes, packed])
def test_prefetch_that_is_cut_off(pack: Callable[[bytes], bytes]) -> None:
    """Its beginning tells the program and its runs, and that it is a part is said; else it is a failure."""
    data = pack(prefetch("A.EXE", [mesa.at("22:27:02")], [OS], 7))
    ((whole,), nothing) = partly("A.pf", data)
    assert nothing == ""
    seen = set()
    for cut in range(8, len(data) - 60, 23):
        found, wrong = partly("A.pf", data[:cut])
        if found == [whole] and not wrong:  # all that matters is there
            continue
        seen.add(bool(found))
        assert wrong.startswith("Only the beginning" if found else "This is not a whole file of Prefetch")
        for fact in found:
            assert fact[:2] == whole[:2]
            assert [fact.value[name] for name in ("count", "times")] == [
                whole.value[name] for name in ("count", "times")
            ]
            assert fact.value["path"] in ("", whole.value["path"])
    assert seen == {True, False}


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9])
def test_prefetch_of_windows_10_that_is_cut_off(cut: float, real: dict[str, bytes]) -> None:
    """Real files: what stands of them tells no more and nothing else than the whole."""
    for name, data in real.items():
        (whole,), _ = partly(name, data)
        found, _ = partly(name, data[: max(700, int(len(data) * cut))])
        assert [fact.name for fact in found] == [whole.name]
        assert all(found[0].value[one] == whole.value[one] for one in ("count", "times"))
        assert found[0].value["path"] in ("", whole.value["path"])


def test_xpress_huffman_of_windows(real: dict[str, bytes]) -> None:
    """Real files unpack to what libscca reads out of them."""
    for name, data in real.items():
        whole = unpacked(data[8:], int.from_bytes(data[4:8], "little"))
        assert partly(name, whole) == partly(name, data)


@given(st.binary(max_size=400), st.integers(0, 1 << 20))
def test_xpress_huffman_of_anything(data: bytes, size: int) -> None:
    """Whatever is unpacked ends, with at most as many bytes as it should have."""
    assert len(unpacked(bytes([0x99] * 256) + data, size)) <= size
    assert unpacked(data, size) == b"" or len(data) > 256
