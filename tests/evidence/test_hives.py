"""Registry hives: what another reader finds in them, their transaction logs, and hives that are damaged."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mesa
import pytest
from regipy.registry import NKRecord, RegistryHive

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts import facts_of
from fanfold.evidence.facts import registry as registry_reader
from fanfold.evidence.facts.hives import system
from fanfold.evidence.facts.registry import Hive, Key
from fanfold.evidence.facts.transactions import marvin32, replayed
from registry import BLOCK, entry, filetime, hive, log_of, old_log_of
from registry import marvin32 as reference

KEYS: dict[str, dict[str, Any]] = {
    "Control\\Name": {"Name": "EMSSERVER", "": "the default", "Number": 7, "Büro": b"\1\2\3", "Empty": b""},
    "Control\\Lists": {"Texts": ["one", "two"], "Long": bytes(range(256)) * 200},
    **{f"Many\\{number:03}": {"Number": number} for number in range(300)},
}
LATER = {**KEYS, "Control\\Name": {"Name": "ICC01"}, "Control\\Newer": {"Text": "new " * 3000}}


def keys(key: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a hive by their paths."""
    yield path, key
    for one in key.iter_subkeys() if isinstance(key, NKRecord) else key.below():
        yield from keys(one, f"{path}\\{one.name}")


def test_what_another_reader_finds(tmp_path: Path) -> None:
    """All keys and values are those that regipy finds, large ones and lists, too."""
    data = hive(KEYS, written={"Control\\Name": mesa.at("12:00:00")})
    (tmp_path / "hive").write_bytes(data)
    theirs = {
        path: {value.name: value.value for value in key.iter_values(trim_values=False)}
        for path, key in keys(RegistryHive(str(tmp_path / "hive")).root)
    }
    ours = {path: key.values() for path, key in keys(Hive(data).root)}
    for values in theirs.values():
        if "(default)" in values:
            values[""] = values.pop("(default)")
        if "B\N{REPLACEMENT CHARACTER}ro" in values:  # regipy knows ASCII only
            values["Büro"] = values.pop("B\N{REPLACEMENT CHARACTER}ro")
    assert ours == theirs
    assert len(ours) == 305
    found = Hive(data).root.find("control\\NAME")
    assert found
    assert (found.name, found.written) == ("Name", mesa.at("12:00:00"))
    assert found.value("number") == 7


def name_of(given: Hive) -> Any:
    """A value that the transaction logs of these tests change."""
    return given.values("Control\\Name").get("Name")


def test_a_dirty_hive_is_replayed() -> None:
    """What is in the logs is in the hive afterwards, and it says so; the hive may grow."""
    before, after = hive(KEYS, dirty=True), hive(LATER, dirty=True)
    given = Hive(before, [b"", log_of([before, after])])
    assert (name_of(given), given.dirty) == ("ICC01", "replayed")
    assert given.values("Control\\Newer")["Text"] == "new " * 3000
    assert replayed(before, [log_of([before, after])]) == before[:BLOCK] + after[BLOCK:]


def test_both_logs_are_applied_in_order() -> None:
    """The log whose entries are earlier comes first, whatever its name."""
    steps = [hive({"Control\\Name": {"Name": name}}, dirty=True) for name in ("ONE", "TWO", "SIX", "TEN")]
    logs = [log_of(steps[2:], 42), log_of(steps[:3], 40)]
    assert name_of(Hive(steps[0], logs)) == "TEN"
    assert name_of(Hive(steps[0], [log_of(steps[2:], 43), logs[1]])) == "SIX"  # number 42 is missing


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda log: log[:600] + b"?" + log[601:], "ONE"),  # a page
        (lambda log: log[:550] + b"?" + log[551:], "ONE"),  # a place
        (lambda log: log[:530] + b"?" + log[531:], "ONE"),  # the count of pages
        (lambda log: log[:100] + b"?" + log[101:], "ONE"),  # the base block
        (lambda log: log[:516] + struct.pack("<L", 0) + log[520:], "ONE"),  # the size
        (lambda log: log[:-1], "TWO"),  # the end of the second entry
    ],
)
def test_a_damaged_log_is_applied_up_to_the_damage(change: Any, name: str) -> None:
    """An entry whose checksum is wrong is not applied, nor are those after it."""
    steps = [hive({"Control\\Name": {"Name": name}}, dirty=True) for name in ("ONE", "TWO", "SIX")]
    given = Hive(steps[0], [change(log_of(steps))])
    assert (name_of(given), given.dirty) == (name, "not replayed" if name == "ONE" else "replayed")


def test_entries_that_the_hive_has_are_not_applied() -> None:
    """A log may have entries from before the hive was last written."""
    old, new = (hive({"Control\\Name": {"Name": name}}, dirty=True, sequence=9) for name in ("OLD", "NEW"))
    assert name_of(Hive(new, [log_of([new, old], 8)])) == "NEW"
    assert name_of(Hive(new, [log_of([new, old], 9)])) == "OLD"


def test_a_clean_hive_is_left_as_it_is() -> None:
    """Windows ignores the logs of a hive that was closed properly."""
    before, after = hive(KEYS), hive(LATER)
    given = Hive(before, [log_of([before, after])])
    assert (name_of(given), given.dirty) == ("EMSSERVER", "")


def test_a_log_of_windows_before_8_1() -> None:
    """Pages of 512 bytes, with a map of them; the log is of this state of the hive only."""
    before, after = hive(KEYS, dirty=True), hive({**KEYS, "Control\\Name": {"Name": "NEWSERVER"}}, dirty=True)
    log = old_log_of(before, after)
    assert name_of(Hive(before, [log])) == "NEWSERVER"
    other = bytearray(before)
    struct.pack_into("<Q", other, 12, 8)  # when it was last written
    assert name_of(Hive(bytes(other), [log])) == "EMSSERVER"


def test_a_log_that_claims_too_much() -> None:
    """A hive grows by what its logs have at most: an entry that says more is not applied."""
    before = hive({"Control\\Name": {"Name": "ONE"}}, dirty=True)
    far = log_of([before]) + entry(2, 1 << 30, [((1 << 30) - BLOCK, bytes(BLOCK))])
    assert replayed(before, [far]) is None


@pytest.mark.parametrize(
    ("data", "checksum"),
    [("", 0x30ED35C100CD3C7D), ("AF", 0x48E73FC77D75DDC1), ("8642DC59", 0x7008F2E87E9CF556)],
)
def test_the_checksum_is_the_published_one(data: str, checksum: int) -> None:
    """The checksum that the logs of these tests have agrees with .NET's tests of it, and with ours."""
    assert reference(bytes.fromhex(data), 0x004FB61A001BDBCC) == checksum
    assert marvin32(bytes(40)) == reference(bytes(40))


def test_a_hive_that_leads_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of keys that is full of itself ends in a failure, not in a scan without an end."""
    monkeypatch.setattr(registry_reader, "_SPARE", 1 << 20)
    data = bytearray(hive({f"{number:03}\\below": {"x": b"y" * 9} for number in range(100)}))
    root = Hive(bytes(data)).root
    lists = [at for at in range(BLOCK, len(data)) if data.startswith(b"lf", at)]
    top = BLOCK + root._key_list[1] + 4
    for at in lists:  # all lists of one key are the list of all keys
        if at != top:
            struct.pack_into("<4s", data, at, b"ri\1\0")
            struct.pack_into("<L", data, at + 4, top - 4 - BLOCK)

    def walk(key: Key, depth: int) -> int:
        return sum(1 + walk(one, depth + 1) for one in key.below()) if depth < 9 else 0

    with pytest.raises(Unreadable, match="lead round in circles"):
        walk(Hive(bytes(data)).root, 0)


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_of_a_log_is_too_much(seed: int) -> None:
    """Whatever a log says, the hive can be read afterwards, or is refused."""
    some = random.Random(seed)
    before, after = hive(KEYS, dirty=True), hive(LATER, dirty=True)
    log = bytearray(log_of([before, after]) if seed % 2 else old_log_of(before, after))
    for _ in range(some.choice([1, 3, 20])):
        log[some.randrange(some.choice([600, len(log)]))] = some.randrange(256)
    try:
        assert name_of(Hive(before, [bytes(log)])) in ("EMSSERVER", "ICC01", None)
    except Unreadable as error:
        assert "hive" in str(error)  # noqa: PT017


def test_times_of_keys() -> None:
    """A key has the time at which it was last written."""
    data = hive({"A": {}}, written={"A": mesa.at("10:00:00")})
    assert [key.written for key in Hive(data).root.below()] == [mesa.at("10:00:00")]
    assert filetime(mesa.at("10:00:00")) in data


def test_a_hive_with_more_than_a_million_cells() -> None:
    """However many cells a hive has, what is asked for is read."""
    values = {f"v{number:02}": "?" for number in range(20)}
    apps = {
        f"Root\\InventoryApplicationFile\\{number:05}": {"LowerCaseLongPath": f"c:\\{number}.exe", **values}
        for number in range(24_000)
    }
    data = hive(apps)
    assert len(apps) * (2 + 2 * 21) > 1_000_000
    assert sum(1 for _ in facts_of("Amcache.hve", data)) == len(apps)


def test_many_usb_disks() -> None:
    """The work of reading what is known of disks grows with their number, not with its square."""
    path = "ControlSet001\\Enum\\USBSTOR\\Disk&Ven_SanDisk&Prod_Cruzer_{0:04}&Rev_1\\{0:04}&0"
    data = hive({path.format(number): {"FriendlyName": f"stick {number}"} for number in range(3000)})
    given = Hive(data)
    left = given.root._cells.left
    assert [fact.value["called"] for fact in system(given)] == [f"stick {number}" for number in range(3000)]
    assert left - given.root._cells.left < 2 * len(data)


def test_a_cell_that_cannot_be_read() -> None:
    """A value of which a part is lost is left out, and not taken for what is left of it."""
    data = hive({"Control": {"Name": "EMSSERVER", "Number": 7}})
    at = data.index("SERVER".encode("utf-16-le"))
    assert Hive(data, lost=[(at, at + 1)]).values("Control") == {"Number": 7}
    assert Hive(data, lost=[(0, 4), (at + 400, at + 900)]).values("Control") == {"Name": "EMSSERVER", "Number": 7}
    assert Hive(data, lost=[(0, 4)]).dirty == "not replayed"
