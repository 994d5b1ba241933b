"""Shadow copies: logs as an NTFS volume had them before. Each record is there once, in the newest copy that has it."""

import random
import re
import struct
import subprocess
import sys
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
from evtx import PyEvtxParser
from scans import killed, records, rows, scan

import nursery
from commands import FANFOLD
from commands import fanfold as command
from disk_images import chunk_at, ewf, flipped, in_memory, mbr, windows_volume, write_ewf
from event_logs import events, log_bytes, total
from fanfold.evidence import tables
from fanfold.evidence.disk.ewf import Ewf
from fanfold.evidence.disk.ntfs import Extent, FileSystem
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.disk.shadow import Changes, Copies, catalog
from shadow_copies import BLOCK, HEADER, created, with_copies

LOGS = "Windows/System32/winevt/Logs"
OTHERS = {"Packed": 80, "Pieces": 120}
DELETED = {"Setup": 40, "Old": 250}
SLOTS = 8  # chunks of the log Security
LIVE = total() + sum(OTHERS.values())
STAGES = (["live"], ["shadow"], ["shadow-older"], ["deleted"], ["carved", "verify"])


def file_system(volume: bytes) -> FileSystem:
    """The file system of a volume that is only here."""
    return FileSystem(Raw([in_memory("volume", volume)]), 0)


def with_log(volume: bytes, name: str, log: bytes) -> bytes:
    """A volume in which a log has other content, in the same place."""
    system = file_system(volume)
    (found,) = [one for one in system.logs() if not isinstance(one, str) and one.path.endswith(f"/{name}.evtx")]
    assert len(log) <= found.size
    log, changed = log.ljust(found.size, b"\0"), bytearray(volume)
    for extent in system.extents(found.inode):
        part = log[extent.start : extent.start + extent.length]
        changed[extent.at : extent.at + len(part)] = part
    return bytes(changed)


@lru_cache(maxsize=8)  # of some megabytes each
def written(count: int, first: int = 1) -> tuple[bytes, frozenset[int]]:
    """The windows volume after so many records were written to its log Security; and their ids, as far as it has them.

    A log that is full begins again at its start. One that was cleared goes on with the id `first`.
    """
    log = log_bytes(events(count, "Security", first))
    slots, ids = dict[int, bytes](), dict[int, range]()
    for number, at in enumerate(range(4096, len(log), 65536)):
        chunk = log[at : at + 65536]
        first_id, last_id = struct.unpack_from("<QQ", chunk, 24)
        slots[number % SLOTS], ids[number % SLOTS] = chunk, range(first_id, last_id + 1)
    whole = log[:4096] + b"".join(slots[slot] for slot in sorted(slots))
    return with_log(windows_volume(), "Security", whole), frozenset(number for some in ids.values() for number in some)


def security(count: int) -> bytes:
    """The windows volume with so many records in its log Security."""
    return written(count)[0]


def undeleted(volume: bytes, name: str) -> bytes:
    """A volume in which a log that was deleted is there."""
    system = file_system(volume)
    (found,) = [one for one in system.logs() if not isinstance(one, str) and one.path.endswith(f"/{name}.evtx")]
    (table, *_) = system.extents(0)
    changed = bytearray(volume)
    changed[table.at + found.inode * system.record_size + 22] |= 1
    return bytes(changed)


def cut_off(volume: bytes, name: str, size: int) -> bytes:
    """A volume in which a log is shorter. Its clusters remain its own."""
    system = file_system(volume)
    (found,) = [one for one in system.logs() if not isinstance(one, str) and one.path.endswith(f"/{name}.evtx")]
    attribute, changed = system.content(found.inode), bytearray(volume)
    (table, *_) = system.extents(0)
    at = volume.index(attribute, table.at + found.inode * system.record_size)
    struct.pack_into("<QQ", changed, at + 48, size, size)  # how much there is, and how much of it was written
    return bytes(changed)


def disk(tmp_path: Path, volume: bytes, per_segment: int = 1 << 30) -> Path:
    """An EnCase image of a disk with a volume."""
    return write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(volume), per_segment=per_segment))[0]


def of_security(database: str, image: str = "mesa.E01") -> dict[str | None, set[int]]:
    """The ids of the records of the log Security of a disk, by the volume that has them."""
    found: dict[str | None, set[int]] = {}
    for disk, channel, volume, number in records(database, "image", "channel", "volume", "record_id"):
        if (disk, channel) == (image, "Security"):
            found.setdefault(volume, set()).add(number)
    return found


def test_records_that_only_a_copy_has(tmp_path: Path, database: str) -> None:
    """Each record is there once: in the log if it has it, else in the newest copy; a lost log is read from a copy."""
    (first, early), (second, later), (live, now) = written(250), written(700), written(200, 701)
    assert later > set(range(500, 701))
    assert not later >= early
    scan(disk(tmp_path, with_copies(live, undeleted(first, "Setup"), second)), database, *STAGES)
    assert of_security(database) == {"p1": now, "p1@vss2": later, "p1@vss1": early - later}
    found = records(database, "digest")
    assert set(found.values()) == {1}
    by_origin = records(database, "origin")
    assert by_origin == {
        ("live",): LIVE - 100,
        ("shadow",): len(early | later) + DELETED["Setup"],
        ("deleted",): DELETED["Old"],
    }
    keys = {unit["key"]: unit for unit in rows(database, "evidence")}
    unit = keys[f"mesa.E01/p1@vss1/{LOGS}/Setup.evtx#0-1"]
    assert (unit["records"], unit["origin"], unit["volume"]) == (DELETED["Setup"], "shadow", "p1@vss1")
    (container,) = rows(database, "containers")
    named = [(one["name"], one["kind"] == "shadow copy", one["created"]) for one in container["volumes"]]
    assert named == [("p1", False, None), ("p1@vss1", True, created(1)), ("p1@vss2", True, created(2))]
    assert (container["problems"], rows(database, "shadow_copies")[0]["problems"]) == ([], [])


def test_a_second_scan_reads_the_other_copies(tmp_path: Path) -> None:
    """`newest`, then `all` reads the older ones, too; after `none` all are read; what is known gets no second row."""
    file, database = disk(tmp_path, with_copies(windows_volume(), security(350), security(340))), tmp_path / "db"

    def scanned(*words: str) -> tuple[Counter[tuple[object, ...]], str]:
        done = command("evidence", "scan", file, database, "--no-carve", "--verify", "none", *words)
        assert done.returncode == 0, done.stderr
        return records(str(database), "volume"), done.stderr

    found, _ = scanned("--shadow-copies", "none")
    assert found == {("p1",): LIVE + sum(DELETED.values())}
    assert [copy.is_searched for copy in tables.copies(str(database))] == [False, False]
    found, _ = scanned("--shadow-copies", "newest")
    assert found == {("p1",): LIVE + sum(DELETED.values()), ("p1@vss2",): 40}
    assert [copy.is_searched for copy in tables.copies(str(database))] == [False, True]
    done = command("evidence", "coverage", database)
    assert "1 shadow copy was not searched. To search it: scan again with --shadow-copies all." in done.stderr
    found, said = scanned()
    assert found == {("p1",): LIVE + sum(DELETED.values()), ("p1@vss2",): 40, ("p1@vss1",): 10}
    assert "Reading the logs in older shadow copies." in said
    assert [copy.is_searched for copy in tables.copies(str(database))] == [True, True]
    assert scanned()[0] == found
    assert "shadow copies were" not in command("evidence", "coverage", database).stderr


def test_a_copy_that_is_read_last_has_its_records(tmp_path: Path, database: str) -> None:
    """If a scan first left out the copies, what was recovered elsewhere and is in one counts for the copy."""
    file = disk(tmp_path, with_copies(windows_volume(), undeleted(windows_volume(), "Setup")))
    scan(file, database, ["live"], ["deleted"])
    assert records(database, "origin")["deleted",] == sum(DELETED.values())
    scan(file, database, *STAGES)
    assert records(database, "origin") == {("live",): LIVE, ("shadow",): 40, ("deleted",): 250}
    assert {name: count for name, count, _ in tables.totals(database)} == {"mesa.E01": LIVE + 290}
    assert set(records(database, "digest").values()) == {1}


def test_two_volumes_with_copies(tmp_path: Path, database: str) -> None:
    """Each volume has its own copies; what one volume has gets no second row for another."""
    first = with_copies(security(300), security(310), security(305))
    second = with_copies(windows_volume("mesa"), security(320), security(315))
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(first, second)))
    scan(tmp_path / "given", database, *STAGES)
    mesa = {*range(31002, 31061), 51228, 51229, 51234, 51235}
    assert of_security(database) == {
        "p1": set(range(1, 301)),
        "p2": mesa,
        "p1@vss2": set(range(301, 306)),
        "p2@vss2": set(range(306, 316)),
        "p2@vss1": set(range(316, 321)),
    }
    assert set(records(database, "digest").values()) == {1}
    assert {volume for (volume,) in records(database, "volume")} == {"p1", "p2", "p1@vss2", "p2@vss1", "p2@vss2"}


@pytest.mark.parametrize("sign", ["shadow_copies.lance", "_runs/*/receipts/*"])
def test_a_scan_that_is_killed_goes_on(sign: str, tmp_path: Path, database: str) -> None:
    """Whenever a scan is killed, the next one leaves each record of each copy once."""
    states = random_states(2)
    for number in range(2):
        file = tmp_path / "shelf" / f"host{number}.E01"
        write_ewf(file, ewf(mbr(with_copies(states[-1][0], *(volume for volume, _, _ in states[:-1])))))
    asked = [*FANFOLD, "evidence", "scan", str(tmp_path / "shelf"), database, "--task-size", "3", "--no-carve"]
    killed(asked, database, sign)
    done = nursery.run(asked)
    assert done.returncode == 0, done.stderr
    found = records(database, "image", "channel", "digest")
    assert set(found.values()) == {1}
    mine = Counter(image for image, channel, _ in found if channel == "Security")
    assert set(mine.values()) == {len(set().union(*(ids for _, ids, _ in states)))}
    assert len(mine) == 2


def random_states(seed: int) -> "list[tuple[bytes, set[int], bool]]":
    """States of a volume: its log Security is written to and cleared, and its log Setup comes and goes.

    With each, the ids that Security has, and whether Setup is there.
    """
    some = random.Random(seed)
    found = []
    first, count = 1, 50
    for _ in range(6):
        what = some.choice(["nothing", "written", "written", "cleared"])
        if what == "written":
            count += some.randrange(1, 400)
        elif what == "cleared":
            first, count = first + count, some.randrange(1, 200)
        volume, ids = written(count, first)
        has_setup = some.random() < 0.4
        found.append((undeleted(volume, "Setup") if has_setup else volume, ids, has_setup))
    return found


SEEDS = range(4)


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of disks with a random history each."""
    folder = tmp_path_factory.mktemp("histories")
    for seed in SEEDS:
        *copies, (live, _, _) = random_states(seed)
        volume = with_copies(live, *(volume for volume, _, _ in copies))
        write_ewf(folder / "given" / f"{seed}.E01", ewf(mbr(volume)))
    scan(folder / "given", str(folder / "db"), *STAGES)
    return str(folder / "db")


@pytest.mark.parametrize("seed", SEEDS)
def test_every_record_of_every_state(seed: int, histories: str) -> None:
    """Whatever happened to a log between the copies, each of its records is there once, in the newest that has it."""
    states, image = random_states(seed), f"{seed}.E01"
    names = [*(f"p1@vss{number}" for number in range(1, len(states))), "p1"]
    wanted: dict[str | None, set[int]] = {}
    known: set[int] = set()
    for name, (_, ids, _) in zip(reversed(names), reversed(states), strict=True):
        if new := ids - known:
            wanted[name] = new
        known |= new
    assert of_security(histories, image) == wanted
    with_setup = [name for name, (_, _, has_setup) in zip(names, states, strict=True) if has_setup]
    found = records(histories, "image", "channel", "volume", "origin", "digest")
    (place,) = {(volume, origin) for disk, channel, volume, origin, _ in found if (disk, channel) == (image, "Setup")}
    newest = with_setup[-1] if with_setup else "p1"
    assert place == (newest, "shadow" if "@" in newest else "live" if with_setup else "deleted")
    assert set(found.values()) == {1}


def test_a_log_that_was_cut_off_between_copies(tmp_path: Path, database: str) -> None:
    """A log that became shorter, while its blocks stayed as they were, is read as the older copy has it."""
    whole, ids = written(300)
    short = cut_off(whole, "Security", 4096 + 2 * 65536)
    scan(disk(tmp_path, with_copies(short, whole, short, short)), database, ["live"], ["shadow"], ["shadow-older"])
    found = of_security(database)
    assert found["p1"] | found["p1@vss1"] == ids
    assert 50 < len(found["p1"]) < 150


def test_what_has_not_changed_is_not_listed_again(tmp_path: Path, database: str) -> None:
    """Of twelve copies, the two newest are listed as a whole; of the others, only the chunks that may differ."""
    states = [security(200 + 12 * number) for number in range(1, 13)]
    scan(disk(tmp_path, with_copies(security(350), *states)), database, *STAGES)
    chunks: Counter[str] = Counter()
    for row in rows(database, "shadow_copies_contents"):
        chunks[re.findall(r"p1@vss\d+", row["unit"])[0]] += -(-row["bytes"] // 65536)
    assert chunks["p1@vss12"] == chunks["p1@vss11"] > 25
    assert all(0 < chunks[f"p1@vss{number}"] < 10 for number in range(1, 11)), chunks
    assert of_security(database) == {"p1": set(range(1, 351))}


@pytest.mark.parametrize("per_segment", [1 << 30, 7])
def test_copies_of_a_split_image(per_segment: int) -> None:
    """An image in one file and in many has the same copies, block by block."""
    states = [security(100), security(200)]
    volume = with_copies(security(300), *states)
    segments = ewf(volume, per_segment=per_segment)
    assert (len(segments) > 20) == (per_segment == 7)
    medium = Ewf.open([in_memory(f"a.E{one.number:02}", bytes(one.data)) for one in segments])
    found, wrong = catalog(medium, 0, medium.size)
    assert ([(copy.number, copy.created) for copy in found], wrong) == ([(1, created(1)), (2, created(2))], "")
    copies = Copies(medium, 0, medium.size)
    assert [copies.medium(copy.number).read_at(BLOCK, 1 << 30) for copy in found] == [one[BLOCK:] for one in states]


def test_more_copies_than_a_block_of_the_catalog_holds() -> None:
    """Copies are counted from the oldest on, however many blocks the catalog has."""
    states = [windows_volume()[:-100] + bytes([number]) * 100 for number in range(1, 150)]
    volume = with_copies(windows_volume(), *states, per_block=9)
    medium = Raw([in_memory("volume", volume)])
    found, wrong = catalog(medium, 0, medium.size)
    assert ([copy.created for copy in found], wrong) == ([created(number) for number in range(1, 150)], "")
    copies = Copies(medium, 0, medium.size)
    assert len(copies) == 149
    assert {copies.medium(number).read_at(len(states[0]) - 1, 1)[0] for number in range(1, 150)} == {*range(1, 150)}


def test_the_library_and_the_changes_agree() -> None:
    """Blocks that are not among the changes are equal in a copy and in the next newer one."""
    some = random.Random(5)
    state = bytearray(windows_volume())
    states = []
    for _ in range(5):
        for _ in range(20):
            state[some.randrange(2 * BLOCK, len(state))] ^= 1
        states.append(bytes(state))
    volume = with_copies(*reversed(states))
    medium = Raw([in_memory("volume", volume)])
    found, _ = catalog(medium, 0, medium.size)
    copies = Copies(medium, 0, medium.size)
    for older, newer in pairwise(found):
        blocks = set(Changes(medium, 0, medium.size, older, newer).blocks.tolist())
        contents = [copies.medium(copy.number).read_at(0, len(state)) for copy in (older, newer)]
        differing = {
            at // BLOCK for at in range(0, len(state), BLOCK) if len({one[at : at + BLOCK] for one in contents}) > 1
        }
        assert differing == blocks
        assert differing


def test_changes_of_a_file() -> None:
    """The bytes of a file that lie in a block that has changed; all up to there, if they are compressed."""
    state = bytearray(windows_volume())
    state[10 * BLOCK] ^= 1
    medium = Raw([in_memory("volume", with_copies(windows_volume(), bytes(state), windows_volume()))])
    changes = Changes(medium, 0, medium.size, *catalog(medium, 0, medium.size)[0])
    assert changes.blocks.tolist() == [10]
    assert changes.of([Extent(4096, 9 * BLOCK + 512, 2 * BLOCK, False)]) == [
        (4096 + BLOCK - 512, 4096 + 2 * BLOCK - 513)
    ]
    assert changes.of([Extent(4096, 9 * BLOCK + 512, 2 * BLOCK, True)]) == [(0, 4096 + 2 * BLOCK - 1)]
    assert changes.of([Extent(0, 8 * BLOCK, 2 * BLOCK, False), Extent(2 * BLOCK, 11 * BLOCK, BLOCK, True)]) == []


# Damage


def parts(volume: bytes) -> dict[str, int]:
    """Where the parts of the oldest copy lie."""
    (at,) = struct.unpack_from("<Q", volume, HEADER + 48)
    (listed,) = struct.unpack_from("<Q", volume, at + 256 + 8)
    header, _, bitmap = struct.unpack_from("<3Q", volume, at + 256 + 32)
    return {"volume": HEADER, "catalog": at, "entry": at + 128, "list": listed, "header": header, "bitmap": bitmap}


NOWHERE, EMPTY = struct.pack("<Q", 1 << 60), bytes(BLOCK)
CATALOG = r"p1 has a damaged catalog of shadow copies: it goes on at byte [\d,]+ of the volume, where "


DAMAGE: list[tuple[str, int, bytes | None, str, tuple[int, ...]]] = [
    ("volume", 48, NOWHERE, CATALOG + "nothing of it is", ()),
    ("volume", 48, struct.pack("<Q", HEADER), CATALOG + "something else is", ()),
    ("catalog", 0, EMPTY, CATALOG + "nothing of it is", ()),
    ("catalog", 40, NOWHERE, CATALOG + "nothing of it is", ()),
    ("catalog", 40, None, CATALOG + "nothing of it is", ()),  # a circle
    ("entry", 8, NOWHERE, "", (1, 2)),  # a copy of 2^60 bytes
    ("entry", 48, NOWHERE, "", (1, 2)),  # in the year 5254
    ("entry", 48, bytes(8), "", (1, 2)),
    ("entry", 0, bytes(8), "", (1,)),  # the other copy is then the first
    ("entry", 128, bytes(8), r"p1@vss1 cannot be read to its end: its blocks are not on this volume", (2,)),
    ("list", 0, EMPTY, r"p1@vss1 cannot be read to its end: ", (2,)),
    ("list", 40, None, r"p1@vss1 cannot be read to its end: ", (2,)),
    ("list", 40, NOWHERE, r"p1@vss1 cannot be read to its end: ", (2,)),
    ("bitmap", 40, None, r"p1@vss1 cannot be read to its end: ", (2,)),
    ("header", 0, EMPTY, r"p1: its 2 shadow copies cannot be read: ", ()),
    ("header", 48, NOWHERE, "", (1, 2)),
]
"""Of a part, the offset where the damage lies, its bytes (None: where the part lies), what is told, the copies read."""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of disks with copies, each with its own damage."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = with_copies(security(300), security(320), security(310))
    for number, (part, offset, content, _, _) in enumerate(DAMAGE):
        volume, at = bytearray(whole), parts(whole)
        content = struct.pack("<Q", at[part]) if content is None else content
        volume[at[part] + offset : at[part] + offset + len(content)] = content
        write_ewf(folder / "given" / f"{number:02}.E01", ewf(mbr(bytes(volume))))
    scan(folder / "given", str(folder / "db"), *STAGES)
    return str(folder / "db")


@pytest.mark.parametrize("number", range(len(DAMAGE)))
def test_damage(number: int, damaged: str) -> None:
    """Whatever is damaged, what can be read is read, and the rest is told; nothing hangs."""
    (*_, says, read), image = DAMAGE[number], f"{number:02}.E01"
    told = [problem for key, problem in tables.problems(damaged) if key.startswith(image)]
    assert any(re.match(says, problem) for problem in told) if says else told == []
    found = of_security(damaged, image)
    found.pop(None, None)  # what is carved
    assert found.pop("p1") == set(range(1, 301))
    assert {int(str(name).rpartition("@vss")[2]) for name in found} == {*read}


def test_a_block_that_lies_nowhere(tmp_path: Path, database: str) -> None:
    """Records in a block that cannot be read are lost; others of that copy are there."""
    volume = bytearray(with_copies(security(300), security(350)))
    at = parts(volume)["list"] + 128
    listed = {struct.unpack_from("<Q", volume, at + 32 * number)[0]: at + 32 * number for number in range(8)}
    struct.pack_into("<Q", volume, listed[max(listed)] + 16, 1 << 60)
    scan(disk(tmp_path, bytes(volume)), database, *STAGES)
    found = of_security(database)["p1@vss1"]
    assert 0 < len(found) < 50
    assert found < set(range(301, 351))


def test_damage_of_the_disk_image_below_a_copy(tmp_path: Path, database: str) -> None:
    """Records of a copy that lie where the disk image is damaged are marked, and so are no others."""
    volume = with_copies(security(300), security(350))
    segments = ewf(mbr(volume), per_table=1 << 12, deflated=lambda _: False)
    at = parts(volume)["list"] + 128
    place = max(struct.unpack_from("<16xQ", volume, at + 32 * number)[0] for number in range(5))
    flipped(segments[0], chunk_at(segments[0], (place + 64 * 512) // 32768))
    write_ewf(tmp_path / "given" / "mesa.E01", segments)
    scan(tmp_path / "given", database, *STAGES)
    marked = records(database, "volume", "damaged")
    assert marked["p1@vss1", True] > 0
    assert marked["p1", True] == 0


# The verbs


def without_library(*words: object) -> "subprocess.CompletedProcess[str]":
    """Run a command as if the library were not installed."""
    asked = [*map(str, words)]
    code = f"""
import sys
from importlib import util
there = util.find_spec
util.find_spec = lambda name, *rest: None if name == "pyvshadow" else there(name, *rest)
sys.argv[1:] = {asked!r}
from fanfold.cli import main
main()
"""
    return nursery.run([sys.executable, "-c", code])


def test_without_the_extra(tmp_path: Path) -> None:
    """Without the library, the rest is done, and it is told what to install; then the copies are read."""
    file, database = disk(tmp_path, with_copies(windows_volume(), security(320), security(310))), tmp_path / "db"
    told = (
        "mesa.E01: 2 shadow copies were not searched. To search them: "
        "pip install 'fanfold[evidence-vss]', then scan again with --shadow-copies all."
    )
    asked = ("evidence", "scan", file, database, "--no-carve", "--verify", "none")
    done = without_library(*asked)
    assert (done.returncode, told in done.stderr) == (3, True), done.stderr
    assert records(str(database), "origin") == {("live",): LIVE, ("deleted",): 290}
    done = without_library(*asked, "--shadow-copies", "none")
    assert (done.returncode, "shadow" in done.stderr) == (0, False), done.stderr
    said = command("evidence", "report", database, "--question", "machine").stdout
    assert "p1 has shadow copies (2), made: Thu 20 May 2021, 10:00:00 UTC; Fri 21 May 2021, 10:00:00 UTC." in said
    assert "What the logs in all shadow copies held." in said
    done = command(*asked)
    assert (done.returncode, "not searched" in done.stderr) == (0, False), done.stderr
    assert records(str(database), "origin")["shadow",] == 20
    assert "What the logs in all" not in command("evidence", "report", database, "--question", "machine").stdout


def test_a_worker_without_the_library(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that a worker cannot read for want of the library are failures, which the next scan tries again."""
    file = disk(tmp_path, with_copies(windows_volume(), security(320), security(310)))
    scan(file, database, ["live"], ["shadow"])
    with monkeypatch.context() as patched:
        patched.setattr("fanfold.evidence.disk.shadow.is_installed", lambda: False)
        scan(file, database, ["shadow-older"])
        (message,) = {failure["message"] for failure in rows(database, "failures")}
        assert message.startswith("Shadow copies need the extra 'evidence-vss'. Install it with: pip install")
    scan(file, database, ["shadow-older"])
    assert rows(database, "failures") == []
    assert records(database, "volume")["p1@vss1",] == 10


def test_the_report_and_the_coverage(tmp_path: Path, database: str) -> None:
    """The report tells of the copies with their dates, counts what only they have, and rests on it with a reason."""
    scan(disk(tmp_path, with_copies(windows_volume(), windows_volume("mesa"), security(310))), database, *STAGES)
    said = " ".join(command("evidence", "report", database).stdout.split())
    made = "Thu 20 May 2021, 04:00:00 MDT (10:00:00 UTC); Fri 21 May 2021, 04:00:00 MDT (10:00:00 UTC)."
    assert f"p1 has shadow copies (2), made: {made}" in said  # the zone is that of a log in a copy
    assert "Time zone: Mountain Standard Time. likely: a record is from a shadow copy" in said
    assert "another Windows" not in said
    assert "90 records that the logs have no longer were found in shadow copies." in said
    assert "emsadmin logged on at the console, by a recovered record. likely: a record is from a shadow copy" in said
    done = command("evidence", "coverage", database)
    assert re.search(r"mesa\.E01/p1@vss2/Security +10 .*from a shadow copy", done.stdout)
    assert re.search(r"mesa\.E01/p1@vss1/DNS Server +2 .*from a shadow copy", done.stdout)
    found = command("evidence", "show", database, "DNS Server#2").stdout
    assert "volume: p1@vss1\n" in found
    assert "origin: shadow\n" in found


def test_extract_writes_what_only_copies_have(tmp_path: Path, database: str) -> None:
    """Logs of copies become files, of the chunks that have a record that the log has not."""
    scan(disk(tmp_path, with_copies(windows_volume(), windows_volume("mesa"), security(310))), database, *STAGES)
    done = command("evidence", "extract", database, "--to", tmp_path / "out", "--origin", "shadow")
    assert done.returncode == 0, done.stderr
    written = {
        str(file.relative_to(tmp_path / "out" / "mesa.E01")): file for file in (tmp_path / "out").rglob("*.evtx")
    }
    newest = written.pop(f"p1@vss2/{LOGS}/Security.evtx")
    ids = [record["event_record_id"] for record in PyEvtxParser(str(newest)).records_json()]
    assert set(range(301, 311)) <= set(ids) <= set(range(1, 311))
    assert len(ids) < 100
    assert {name.partition("/")[0] for name in written} == {"p1@vss1"}
    assert f"p1@vss1/{LOGS}/DNS Server.evtx" in written
