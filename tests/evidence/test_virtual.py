"""Disks of virtual machines: VHD, VHDX, VMDK and qcow2, as QEMU writes them."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from scans import STAGES, records, rows, scan

import nursery
from commands import fanfold as command
from disk_images import in_memory, mbr, windows_volume
from event_logs import total
from fanfold.evidence.disk import open_medium
from fanfold.evidence.disk.medium import Medium, SegmentFile, Unreadable
from fanfold.evidence.disk.virtual import _check_clusters

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-utils")


def qemu(*words: object) -> None:
    """Run qemu-img."""
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, timeout=60)


def image(folder: Path, name: str, *options: str) -> Path:
    """The disk with the Windows volume, as an image of the kind that the name's ending tells."""
    kinds = {".vhd": "vpc", ".vmdk": "vmdk", ".vhdx": "vhdx", ".qcow2": "qcow2"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "disk").write_bytes(mbr(windows_volume()))
    qemu("convert", "-O", kinds[Path(name).suffix], *options, folder / "disk", folder / name)
    (folder / "disk").unlink()
    return folder / name


def opened(file: Path) -> Medium:
    """The medium in a file."""
    return open_medium([in_memory(file.name, file.read_bytes())])


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("a.vmdk", (), "VMDK"),
        ("a.vmdk", ("-o", "subformat=streamOptimized"), "VMDK"),
        ("a.vhd", (), "VHD"),
        ("a.vhd", ("-o", "subformat=fixed"), "raw"),
        ("a.vhdx", (), "VHDX"),
        ("a.qcow2", (), "qcow2"),
        ("a.qcow2", ("-o", "compat=0.10"), "qcow2"),
    ],
)
def test_an_image_gives_the_disk_back(name: str, options: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    """Every byte comes back. A VHD may be a little longer than its disk was."""
    data = mbr(windows_volume())
    medium = opened(image(tmp_path, name, *options))
    assert (medium.kind, medium.problems, medium.damage) == (kind, [], [])
    assert 0 <= medium.size - len(data) < 1 << 16
    assert medium.read_at(0, len(data)) == data
    assert medium.read_at(70_001, 200_000) == data[70_001:270_001]
    assert medium.read_at(medium.size, 10) == b""


def test_a_scan_of_virtual_disks(tmp_path: Path, database: str) -> None:
    """The same records as from the disk itself."""
    kinds = {"a.vmdk": "VMDK", "a.vhdx": "VHDX", "a.qcow2": "qcow2"}
    for name in kinds:
        image(tmp_path / "given", name)
    scan(tmp_path / "given", database, *STAGES)
    found = records(database, "image", "origin")
    for name in kinds:
        assert (found[name, "live"], found[name, "deleted"]) == (total() + 200, 290)
    assert {row["key"]: row["kind"] for row in rows(database, "containers")} == kinds


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    """What the library reads wrong is refused, with what to do: compressed clusters, and encryption."""
    with pytest.raises(Unreadable, match=r"a.qcow2 has compressed clusters, which cannot be read. Make a copy without"):
        opened(image(tmp_path, "a.qcow2", "-c"))
    file = image(tmp_path, "b.qcow2")
    data = bytearray(file.read_bytes())
    data[32:36] = (2).to_bytes(4, "big")  # LUKS; qemu-img measures its processor for it, and fails on a busy one
    file.write_bytes(data)
    with pytest.raises(Unreadable, match=r"b.qcow2 is encrypted\."):
        opened(file)
    data = bytearray(image(tmp_path, "c.qcow2").read_bytes())
    data[24:32] = (1 << 50).to_bytes(8, "big")  # to look for logs in all of it would take years
    with pytest.raises(Unreadable, match=r"c\.qcow2 claims 1,125,899,906,842,624 bytes, more than such a disk can"):
        open_medium([in_memory("c.qcow2", bytes(data))])


def test_a_qcow2_whose_tables_are_one() -> None:
    """A table that is named by 65,536 entries is looked at once."""
    head = struct.pack(">4sLQLLQLLQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 40, 0, 1 << 16, 4096).ljust(4096, b"\0")
    data, asked = (head + struct.pack(">Q", 1 << 20) * (1 << 16)).ljust(2 << 20, b"\0"), list[int]()

    def read(offset: int, length: int) -> bytes:
        asked.append(offset)
        return data[offset : offset + length]

    _check_clusters(SegmentFile("a.qcow2", len(data), read))
    assert asked == [0, 4096, 1 << 20]


@pytest.mark.parametrize(("name", "kind"), [("child.qcow2", "qcow2"), ("child.vmdk", "vmdk")])
def test_an_image_of_changes_names_the_other(name: str, kind: str, tmp_path: Path) -> None:
    """A snapshot is refused by the name of the image that it changes."""
    parent = image(tmp_path, f"parent{Path(name).suffix}")
    qemu("create", "-f", kind, "-b", parent.name, "-F", kind, tmp_path / name)
    with pytest.raises(Unreadable, match=r"has only the changes to another one '.*parent"):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["a.vmdk", "a.vhd", "a.vhdx", "a.qcow2"])
def test_an_image_that_is_cut_off(name: str, tmp_path: Path) -> None:
    """What is lost is refused, or zeros that are known as such."""
    data = mbr(windows_volume())
    file = image(tmp_path, name)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    try:
        medium = opened(file)
    except Unreadable:
        return
    found = medium.read_at(0, len(data))
    assert len(found) == len(data)
    for at in range(0, len(data), 65536):
        if found[at : at + 65536] != data[at : at + 65536]:
            assert medium.is_damaged(at, 65536), at


def test_without_the_extra(tmp_path: Path) -> None:
    """Without its libraries, an image of a virtual machine is a failure that says what to install."""
    file = image(tmp_path / "given", "a.vmdk")
    words = ["evidence", "verify", str(file)]
    code = f"import sys; sys.modules['pyvmdk'] = None; sys.argv[1:] = {words!r}; from fanfold.cli import main; main()"
    done = nursery.run([sys.executable, "-c", code])
    assert (done.returncode, "pip install 'fanfold[evidence-vm]'" in done.stdout) == (1, True)


def test_a_descriptor_names_what_to_scan(tmp_path: Path) -> None:
    """A VMDK that only names other files is a failure; the file that it names is a raw image."""
    image(tmp_path / "given", "a.vmdk", "-o", "subformat=monolithicFlat")
    done = command("evidence", "scan", tmp_path / "given", tmp_path / "db")
    assert done.returncode == 3
    kinds = {row["key"]: row["kind"] for row in rows(str(tmp_path / "db"), "containers")}
    assert kinds == {"a-flat.vmdk": "raw"}
    (failure,) = rows(str(tmp_path / "db"), "failures")
    assert failure["message"].endswith("Scan those: NAME-flat.vmdk is a raw image.")
