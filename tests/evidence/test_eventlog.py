"""Event logs: every record that stands is found, whatever happened to the rest of the file."""

import faulthandler
import itertools
import json
import random
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from event_logs import CHUNK, START, Event, by_libevtx, events, log_bytes, sealed, write_log
from fanfold.evidence import Evidence
from fanfold.evidence.eventlog.chunks import Chunk, chunks_of, header_of, log_of, records_of
from fanfold.evidence.eventlog.coverage import Coverage
from fanfold.evidence.eventlog.records import Content, Decoded, content_of, decoded, decoded_together, number, payload
from fanfold.evidence.eventlog.rows import EVENT_FIELDS, Found, batches, times
from fanfold.evidence.times import moment

LOG = log_bytes(events(300))
FIRST = 4096


def read(log: bytes) -> list[Decoded]:
    """Every record of a log."""
    return [record for chunk in chunks_of([log]) for record in decoded(chunk)]


def ids(log: bytes) -> list[int]:
    """The ids of the records that can be decoded."""
    return [one.record.record_id for one in read(log) if not one.error]


def test_another_reader_finds_the_same_in_what_is_written_here(tmp_path: Path) -> None:
    """libevtx finds the records that this reader finds, so that both tests and reader know the format."""
    log = write_log(tmp_path / "Security.evtx", events(300))
    theirs = [
        (one.get_identifier(), one.get_written_time_as_integer(), one.get_xml_string()) for one in by_libevtx(log)
    ]
    assert [one[:2] for one in theirs] == [(one.record.record_id, one.record.filetime) for one in read(LOG)]
    assert all(f"<EventID>{one.event_id}<" in xml for (*_, xml), one in zip(theirs, events(300), strict=True))


def test_every_record_is_decoded() -> None:
    """Id, time and values of every record are those that were written."""
    found = read(LOG)
    assert [one.record.record_id for one in found] == [*range(1, 301)]
    data = [msgspec.json.decode(one.content.data or "") for one in found]
    assert [one["Number"] for one in data] == [str(number) for number in range(1, 301)]
    assert moment(found[0].record.filetime) == START.replace(second=17)
    assert len({one.record.digest for one in found}) == 300
    assert all(chunk.ok for chunk in chunks_of([LOG]))


def test_the_header_is_read_and_not_trusted() -> None:
    """A header tells whether the log was in use. Its counts decide nothing."""
    header = header_of(LOG)
    assert header
    assert (header.chunks, header.next_record_id, header.dirty, header.checksum_ok) == (7, 301, False, True)
    stale = bytearray(LOG)
    stale[42:44] = b"\1\0"
    changed = header_of(stale)
    assert changed
    assert (changed.chunks, changed.checksum_ok) == (1, False)
    assert ids(bytes(stale)) == [*range(1, 301)]
    assert header_of(b"\x89PNG" + bytes(200)) is None


@given(st.lists(st.integers(1, 200_000), max_size=12), st.sampled_from([0, 512, 4096 * 3]))
def test_chunks_are_found_however_the_bytes_come(cuts: list[int], shift: int) -> None:
    """The parts in which a file is read, and sectors before it, change nothing but the offsets."""
    data = bytes(shift) + LOG
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    parts = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert [chunk.offset for chunk in chunks_of(parts)] == [FIRST + shift + n * CHUNK for n in range(7)]


def test_a_chunk_belongs_to_the_part_that_it_begins_in() -> None:
    """Parts of a log that are read apart find each chunk once."""
    middle = FIRST + 3 * CHUNK
    first = list(chunks_of([LOG[: middle + CHUNK]], 0, middle))
    second = list(chunks_of([LOG[middle:]], middle, len(LOG)))
    assert [chunk.offset for chunk in first + second] == [FIRST + n * CHUNK for n in range(7)]


def test_a_log_without_its_header_is_read() -> None:
    """A header of zeros, or none at all, costs no record."""
    assert ids(bytes(FIRST) + LOG[FIRST:]) == [*range(1, 301)]
    assert ids(LOG[FIRST:]) == [*range(1, 301)]


def test_a_log_that_is_cut_off_keeps_what_stands() -> None:
    """Of a chunk that is cut in the middle the records before the cut are read, and its checksum is wrong."""
    cut = LOG[: FIRST + CHUNK + 30_000]
    found = ids(cut)
    assert found == [*range(1, len(found) + 1)]
    assert 47 < len(found) < 94
    assert [chunk.ok for chunk in chunks_of([cut])] == [True, False]


@pytest.mark.parametrize("damage", ["size", "magic", "hole"])
def test_records_after_damage_are_read(damage: str) -> None:
    """A record that is destroyed costs itself: those behind it in the chunk are decoded, too."""
    data = bytearray(LOG)
    tenth = list(records_of(next(chunks_of([LOG]))))[9]
    at = FIRST + tenth.offset
    if damage == "size":
        data[at + 4 : at + 8] = bytes(4)
    elif damage == "magic":
        data[at : at + 4] = b"XXXX"
    else:
        data[at : at + tenth.size] = bytes(tenth.size)
    assert ids(bytes(data)) == [n for n in range(1, 301) if n != 10]
    assert [chunk.ok for chunk in chunks_of([bytes(data)])] == [False, *[True] * 6]


def test_a_record_that_cannot_be_decoded_is_kept() -> None:
    """It has its id, its time and the parser's reason."""
    data = bytearray(LOG)
    third = list(records_of(next(chunks_of([LOG]))))[2]
    at = FIRST + third.offset
    data[at + 24 : at + third.size - 4] = b"\xff" * (third.size - 28)
    bad = [one for one in read(bytes(data)) if one.error]
    assert [one.record.record_id for one in bad] == [3]
    rows = table(bytes(data))
    assert (rows["data"][2].as_py(), rows["record_id"][2].as_py()) == (None, 3)
    assert rows["error"][2].as_py()
    assert rows["error"].null_count == 299


@pytest.mark.parametrize("seed", range(40))
def test_no_mutation_is_too_much(seed: int) -> None:
    """Bytes that are changed, cut or moved end in fewer records and wrong checksums, never in an exception."""
    rng = random.Random(seed)
    data = bytearray(LOG)
    for _ in range(rng.choice([1, 20, 400])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if seed % 3 == 0:
        del data[rng.randrange(len(data)) :]
    if seed % 5 == 0:
        at = rng.randrange(len(data) + 1)
        data = data[at:] + data[:at]
    rows = table(bytes(data))
    assert len(rows) <= 400
    untouched = [chunk for chunk in chunks_of([bytes(data)]) if chunk.ok]
    assert all(chunk.data[512 : chunk.free] in LOG for chunk in untouched)


@pytest.mark.parametrize("table", [128, 384])
def test_a_circle_of_names_ends(table: int) -> None:
    """A list of names or templates that leads back to itself keeps no record from being decoded, and nobody busy."""
    chunk = bytearray(LOG[FIRST : FIRST + CHUNK])
    for at in range(table, table + 100, 4):
        struct.pack_into("<L", chunk, at, 65_000)
    struct.pack_into("<L", chunk, 65_000, 65_100)
    struct.pack_into("<L", chunk, 65_100, 65_000)
    faulthandler.dump_traceback_later(120, exit=True)
    found = decoded(Chunk.of(0, bytes(sealed(chunk))))
    faulthandler.cancel_dump_traceback_later()
    assert len(found) > 40
    assert not any(one.error for one in found)


def test_wrong_checksums_are_told_apart() -> None:
    """A flipped byte in a record breaks the checksum of the data, one in the header that of the header."""
    record, head = bytearray(LOG), bytearray(LOG)
    record[FIRST + 700] ^= 1
    head[FIRST + 130] ^= 1
    (one, *_), (other, *_) = chunks_of([bytes(record)]), chunks_of([bytes(head)])
    assert (one.header_ok, one.data_ok) == (True, False)
    assert (other.header_ok, other.data_ok) == (False, True)


def test_chunks_get_a_header_that_readers_accept() -> None:
    """Chunks below a new header are a log again."""
    chunks = [*chunks_of([LOG])][2:5]
    again = log_of([chunk.data for chunk in chunks], chunks[-1].last_id + 1)
    header = header_of(again)
    assert header
    assert (header.chunks, header.dirty, header.checksum_ok) == (3, False, True)
    assert ids(again) == [*range(chunks[0].first_id, chunks[-1].last_id + 1)]


# Rows


def table(log: bytes) -> pa.Table:
    """The rows of a log."""
    schema = Evidence().details()["events"]
    common = {
        "key": "k",
        "version": "v",
        "image": "i",
        "volume": None,
        "path": "p",
        "origin": "live",
        "header_ok": True,
    }
    found = (Found(decoded(chunk), chunk, 0) for chunk in chunks_of([log]))
    return pa.Table.from_batches(batches(found, common, schema), schema)


def test_rows_have_what_records_say() -> None:
    """Each value of `System` has a column of its own, as a number where it is one."""
    row = table(LOG).to_pylist()[9]
    assert {name: row[name] for name in ("event_id", "level", "process_id", "thread_id", "keywords")} == {
        "event_id": 4625,
        "level": 4,
        "process_id": 4,
        "thread_id": 8,
        "keywords": 0x8020000000000000,
    }
    assert (row["channel"], row["computer"], row["time"]) == ("Security", "EMSSERVER", START.replace(second=26))
    assert msgspec.json.decode(row["data"]) == {"TargetUserName": "emsadmin", "LogonType": "2", "Number": "10"}
    assert {field.name for field in EVENT_FIELDS} | {"key", "version"} == set(row)


def test_numbers_come_in_every_shape() -> None:
    """Text, hexadecimal text, an element with attributes; what is no such number is null."""
    assert [number(value, 16) for value in (7, "7", "0x10", {"#text": "12", "#attributes": {}})] == [7, 7, 16, 12]
    assert [number(value, 8) for value in (256, -1, "x", None, [], {"#text": None}, 1.5)] == [None] * 7


def elements(event: dict[str, object]) -> dict[str, msgspec.Raw]:
    """The elements of an event as `payload` takes them."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in event.items()}


def test_names_that_come_again_keep_all_their_values() -> None:
    """A record may have ten values of one name: each is in its data, as the parser gives them."""
    data = b'{"Count":1,"Count":2,"Text":"\\u0001\xc3\xa4"}'
    assert payload({"System": msgspec.Raw(b"{}"), "EventData": msgspec.Raw(data)}).encode() == data


def content(event: str) -> Content:
    """The content of an event that has one."""
    found = content_of(event)
    assert found
    return found


def test_what_is_no_event_says_so() -> None:
    """A record whose elements are not of the kinds that they should be raises, and one without `System` is kept."""
    with pytest.raises(msgspec.DecodeError):
        content_of('{"Event":{"System":{"Provider":[]}}}')
    found = content('{"Event":{"EventData":{"a":1}}}')
    assert (found.kind.event_id, found.kind.provider, found.data) == (None, None, '{"a":1}')


SYSTEM = {
    "Provider": {"#attributes": {"Name": "N", "Guid": "G"}},
    "EventID": {"#attributes": {"Qualifiers": 16384}, "#text": 7036},
    "Version": 1,
    "Level": 4,
    "Task": 2,
    "Opcode": 3,
    "Keywords": "0x8080000000000000",
    "TimeCreated": {"#attributes": {"SystemTime": "2022-02-05T19:18:52.123456Z"}},
    "EventRecordID": 9,
    "Correlation": {"#attributes": {"ActivityID": "A"}},
    "Execution": {"#attributes": {"ProcessID": 5, "ThreadID": 6}},
    "Channel": "System",
    "Computer": "C",
    "Security": {"#attributes": {"UserID": "S-1"}},
}
ODD = st.sampled_from([None, "x", 7, {"#text": "y"}, {"#attributes": {}}, ',"TimeCreated":', ',"Channel":'])


@given(
    st.permutations([*SYSTEM]),
    st.dictionaries(st.sampled_from([*SYSTEM]), ODD, max_size=2),
    st.sets(st.sampled_from([*SYSTEM]), max_size=2),
)
def test_the_order_of_elements_changes_nothing(order: list[str], odd: dict[str, object], absent: set[str]) -> None:
    """Each value is that of its element, whatever the others are, and wherever it comes."""
    given = {name: value for name, value in (SYSTEM | odd).items() if name not in absent}
    texts = [
        json.dumps({"Event": {"System": {name: given[name] for name in names if name in given}}}, separators=(",", ":"))
        for names in (SYSTEM, order)
    ]
    one, other = (msgspec.to_builtins(content(text)) for text in texts)
    assert one == other
    assert (one["kind"]["level"], one["context"]["channel"]) == (given.get("Level"), given.get("Channel"))


@given(
    st.permutations([*SYSTEM]),
    st.dictionaries(st.sampled_from([*SYSTEM]), ODD, max_size=1),
    st.dictionaries(st.sampled_from(["UserData", "TimeCreated", "EventRecordID", "Channel", "a"]), ODD, max_size=2),
    st.sampled_from([{"a": "1"}, {"a": {"b": ',"Channel":'}}, {"Data": {"#text": ["x"]}}, {}, None]),
)
@example([*SYSTEM], {}, {"EventRecordID": 7}, {"a": "1"})
def test_spaces_change_nothing(
    order: list[str], odd: dict[str, object], beside: dict[str, object], data: object
) -> None:
    """Events are read in parts where they have the usual form, and whole where they do not: with the same result."""
    for names in ([*SYSTEM], order):
        system = {name: (SYSTEM | odd)[name] for name in names}
        event = {"#attributes": {"xmlns": "x"}, "System": system, "EventData": data, **beside}
        tight, wide = (json.dumps({"Event": event}, separators=(mark, ":")) for mark in (",", ", "))
        one, other = (msgspec.to_builtins(content(text)) for text in (tight, wide))
        assert json.loads(one.pop("data")) == json.loads(other.pop("data"))
        assert one == other


@pytest.mark.parametrize("damage", ["none", "a record", "a copy of a chunk"])
def test_chunks_that_are_decoded_together_are_the_same(damage: str) -> None:
    """Several chunks at once give what each gives alone, also if one is damaged, or there twice."""
    data = bytearray(LOG)
    if damage == "a record":
        data[FIRST + CHUNK + 700 : FIRST + CHUNK + 900] = bytes(200)
    elif damage == "a copy of a chunk":
        data[FIRST + CHUNK : FIRST + 2 * CHUNK] = data[FIRST : FIRST + CHUNK]
    chunks = [(chunk, records_of(chunk)) for chunk in chunks_of([bytes(data)])]
    alone = [decoded(*one) for one in chunks]
    assert msgspec.to_builtins(decoded_together(chunks)) == msgspec.to_builtins(alone)
    assert len(alone) == 7


def test_elements_of_any_name_are_kept() -> None:
    """What is beside `System` is kept, whatever it is called: alone as it is, several by their names."""
    beside = {"EventData": {"a": 1}, "ProcessingErrorData": {"b": 2}}
    for elements, expected in ((beside, beside), ({"DebugData": {"c": 3}}, {"c": 3}), ({"EventData": None}, {})):
        event = {"#attributes": {"xmlns": "x"}, "System": {"EventID": 7}, **elements}
        found = content(json.dumps({"Event": event}))
        assert found.kind.event_id == 7
        assert json.loads(found.data or "") == expected


def test_payloads_lose_the_marks_of_xml() -> None:
    """Named values are an object, values without a name a list, and nothing an empty object."""
    for event, expected in (
        ({"System": {}, "EventData": {"a": "1"}}, {"a": "1"}),
        ({"System": {}, "EventData": {"Data": {"#text": ["x", "y"]}}}, ["x", "y"]),
        ({"System": {}, "EventData": {"Data": {"#text": "x"}}}, ["x"]),
        ({"System": {}, "EventData": None}, {}),
        ({"System": {}}, {}),
        ({"System": {}, "UserData": {"EventXML": {"#attributes": {"xmlns": "u"}, "User": "u"}}}, None),
    ):
        found = msgspec.json.decode(payload(elements(event)))
        assert found == expected if expected is not None else "User" in str(found)


def test_times_that_are_none_are_null() -> None:
    """Only times from 1970 to 2099 count; others are null, and keep no row from being made."""
    texts = ["2022-02-05T19:18:52.123456Z", "2022-02-30T00:00:00Z", "1601-01-01T00:00:00Z", "30828-09-14", None, 5]
    assert times(texts).to_pylist() == [datetime(2022, 2, 5, 19, 18, 52, 123456, UTC), *[None] * 5]
    assert [moment(value) for value in (0, -5, 1 << 63, 2650467743990000000)] == [None] * 4


# Coverage


def covered(log: bytes) -> dict[str, object]:
    """What is known of a log after it was read."""
    coverage = Coverage()
    for chunk in chunks_of([log]):
        coverage.add(chunk, list(decoded(chunk)))
    return coverage.row(header_of(log))


def test_coverage_counts_and_finds_gaps() -> None:
    """Ids that are missing are a gap each; a clock that goes back by minutes is counted, a jitter is not."""
    some = [*events(5), *events(5, first=10), *events(3, first=100)]
    some[7] = Event(12, 1, START.replace(hour=3))
    row = covered(log_bytes(some))
    assert (row["records"], row["first_record_id"], row["last_record_id"]) == (13, 1, 102)
    assert row["id_ranges"] == [{"first": 1, "last": 5}, {"first": 10, "last": 14}, {"first": 100, "last": 102}]
    assert (row["backwards"], row["bad_chunks"], row["dirty"]) == (1, 0, False)


def test_coverage_of_what_was_damaged() -> None:
    """An id or a time that was damaged, in a chunk whose checksum is wrong, does not speak of the log."""
    some = events(9)
    some[4] = replace(some[4], written_id=6989715265881639681)
    some[6] = replace(some[6], frame_time=START.replace(year=1864))
    log = bytearray(log_bytes(some))
    assert covered(bytes(log))["renumbered"] == 1  # forwarded, say
    log[FIRST + 512 + 40] ^= 1
    row = covered(bytes(log))
    found = (row["records"], row["bad_chunks"], row["renumbered"], row["first_time"])
    assert found == (9, 1, 0, some[0].time)


def test_coverage_of_nothing() -> None:
    """An empty log has no first and no last record."""
    row = covered(log_bytes([]))
    assert (row["records"], row["first_record_id"], row["last_time"], row["id_ranges"]) == (0, None, None, [])
    assert covered(log_bytes(events(3), dirty=True))["dirty"] is True


def test_a_chunk_is_filled_up() -> None:
    """What a file lacks at its end is read as zeros."""
    chunk = Chunk.of(0, LOG[FIRST : FIRST + 1000])
    assert (len(chunk.data), chunk.data_ok) == (CHUNK, False)
