"""Owners of DynamoDB tables: two Lance tables never share one, in whatever order they arrive."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from dynamo_servers import ABSENT, dynalite, environment

import fanfold
import nursery
from fanfold.aws.dynamodb.table import DynamoTable
from fanfold.core.ledger import Ledger
from fanfold.core.mirror import bring_in_step, mirror_all
from fanfold.errors import MirrorMismatch
from helpers import changed, embed, rows, written
from jobs import Scripted

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.fixture(scope="module")
def _server() -> Iterator[str]:
    """The address of dynalite."""
    with dynalite() as address:
        yield address


@pytest.fixture
def mirror(_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty DynamoDB table."""
    for name, value in environment(_server).items():
        monkeypatch.setenv(name, value)
    address = f"dynamodb://{uuid.uuid4().hex}"
    DynamoTable.create(address)
    return address


def folder(tmp_path: Path, name: str, *files: str) -> Path:
    """A folder of files, each with a text that names its place."""
    made = tmp_path / name
    made.mkdir(exist_ok=True)
    for file in files:
        (made / f"{file}.txt").write_text(f"{name} {file}")
    return made


def items(mirror: str) -> dict[str, str]:
    """The texts of a DynamoDB table, by key."""
    return {item["ImageId"]: item["Text"] for item in DynamoTable.open(mirror).scan()}


def texts(database: str, table: str = "scripted") -> dict[str, str]:
    """The texts of a Lance table, by key."""
    return {key: row["text"] for key, row in rows(database, table).items()}


def fill(database: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `fanfold mirror`."""
    command = [sys.executable, "-m", "fanfold", "mirror", database, *words]
    return nursery.run(command)


def ledger_of(database: str, table: str = "scripted") -> Ledger:
    """The ledger of an existing table."""
    found = Ledger.open(database, table)
    assert found is not None
    return found


def test_equal_stems_of_two_tables_do_not_overwrite_each_other(mirror: str, database: str, tmp_path: Path) -> None:
    """The second table's run is refused before it does anything, with both tables' names and what to do instead."""
    embed(folder(tmp_path, "a", "1", "2"), database, table="s1", ids="stem", mirror=mirror)
    with pytest.raises(MirrorMismatch) as raised:
        embed(folder(tmp_path, "b", "1", "2"), database, table="s2", ids="stem", mirror=mirror)
    said = str(raised.value)
    assert f"mirrors {database}/s1.lance, not {database}/s2.lance" in said
    assert f"such as {mirror}-2. " in said
    assert said.endswith(f"fanfold mirror {database} {mirror} --table s2 --replace")
    assert rows(database, "s2") == {}
    assert items(mirror) == texts(database, "s1") == {"1": "a 1", "2": "a 2"}
    done = fill(database, mirror, "--table", "s2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_run_of_the_same_table_goes_on(mirror: str, database: str, tmp_path: Path) -> None:
    """New and changed items are written, from any part of the source."""
    source = folder(tmp_path, "a", "1", "2")
    embed(source, database, mirror=mirror)
    changed(source / "1.txt", "other")
    folder(tmp_path, "a", "3")
    embed(source, database, mirror=mirror)
    assert items(mirror) == texts(database) == {"1.txt": "other", "2.txt": "a 2", "3.txt": "a 3"}


def test_a_mirror_is_given_to_another_table(mirror: str, database: str, tmp_path: Path) -> None:
    """The error's command empties and refills the mirror; then the other table owns it, and the first is refused."""
    embed(folder(tmp_path, "a", *map(str, range(60))), database, table="s1", mirror=mirror)
    embed(folder(tmp_path, "b", "1", "x"), database, table="s2")
    done = fill(database, mirror, "--table", "s2", "--replace")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 rows compared.\n")
    assert "2 written" in done.stdout
    assert items(mirror) == texts(database, "s2")
    with pytest.raises(MirrorMismatch, match=r"s2\.lance, not .*s1\.lance"):
        embed(tmp_path / "a", database, table="s1", mirror=mirror)


def test_a_database_that_is_moved_or_copied_keeps_its_mirror(mirror: str, database: str, tmp_path: Path) -> None:
    """A table's id is inside it: a restored backup continues with the mirror and fills an empty one."""
    source = folder(tmp_path, "a", "1", "2")
    embed(source, database, mirror=mirror)
    moved = str(tmp_path / "moved")
    shutil.move(database, moved)
    folder(tmp_path, "a", "3")
    embed(source, moved, mirror=mirror)
    assert items(mirror) == texts(moved)
    empty = f"{mirror}-2"
    DynamoTable.create(empty)
    assert fill(moved, empty, "--table", "scripted").returncode == 0
    assert items(empty) == texts(moved)


def test_a_table_made_again_is_another_one(mirror: str, database: str, tmp_path: Path) -> None:
    """A database that was deleted and made again at the same path is refused its old mirror, with the reason."""
    source = folder(tmp_path, "a", "1", "2")
    embed(source, database, mirror=mirror)
    shutil.rmtree(database)
    (source / "1.txt").unlink()
    with pytest.raises(MirrorMismatch, match=r"an earlier table at .*scripted\.lance. The table there now is a diff"):
        embed(source, database, mirror=mirror)
    embed(source, database)
    assert fill(database, mirror, "--table", "scripted", "--replace").returncode == 0
    assert items(mirror) == {"2.txt": "a 2"}


def test_two_databases_with_tables_of_one_name(mirror: str, tmp_path: Path) -> None:
    """A table name is not enough to own a mirror, because each database has a table of that name."""
    source = folder(tmp_path, "a", "1")
    embed(source, str(tmp_path / "one"), mirror=mirror)
    with pytest.raises(MirrorMismatch, match=r"one/scripted\.lance, not .*two/scripted\.lance"):
        embed(source, str(tmp_path / "two"), mirror=mirror)


def without_owner(mirror: str) -> None:
    """Make a mirror like one from before items had owners."""
    table: Any = boto3.resource("dynamodb").Table(mirror.removeprefix("dynamodb://"))
    for item in table.scan()["Items"]:
        table.put_item(Item={name: value for name, value in item.items() if name not in ("MirrorOf", "TableId")})


def test_a_mirror_from_before_there_were_owners(mirror: str, database: str, tmp_path: Path) -> None:
    """Runs continue; `fanfold mirror` sets the owner of every item, and from then on other tables are refused."""
    source = folder(tmp_path, "a", "1", "2", "3")
    embed(source, database, mirror=mirror)
    without_owner(mirror)
    changed(source / "1.txt", "other")
    embed(source, database, mirror=mirror)
    assert items(mirror) == texts(database)
    assert fill(database, mirror, "--table", "scripted").returncode == 0
    owned = [item["TableId"] for item in DynamoTable.open(mirror).scan()]
    assert (len(owned), set(owned)) == (3, {ledger_of(database).id})
    with pytest.raises(MirrorMismatch):
        embed(source, str(tmp_path / "other"), mirror=mirror)


def test_a_table_from_before_there_were_ids(mirror: str, database: str, tmp_path: Path) -> None:
    """A table without an id is identified by its name and by what its keys mean."""
    source = folder(tmp_path, "a", "1")
    embed(source, database, table="one")
    embed(source, database, table="two")
    for name in ("one", "two"):
        ledger = ledger_of(database, name)
        schema = ledger.rows.dataset.schema
        metadata = {key: value for key, value in (schema.metadata or {}).items() if key != b"fanfold.id"}
        plain = {key.decode(): value.decode() for key, value in metadata.items()}
        ledger.rows.dataset.update_schema_metadata(plain, replace=True)
        assert "fanfold.id" not in ledger_of(database, name).rows.metadata
    mirror_all(ledger_of(database, "one").rows, ledger_of(database, "one").mirror(mirror))
    embed(source, database, table="one", mirror=mirror)
    with pytest.raises(MirrorMismatch):
        embed(source, database, table="two", mirror=mirror)


def test_a_dead_run_whose_mirror_is_another_tables_by_now(mirror: str, database: str, tmp_path: Path) -> None:
    """The next run ends the dead run and leaves the mirror alone, since nothing can be written there for it."""
    source = folder(tmp_path, "a", "1")
    run = fanfold.run(Scripted(), source=str(source), database=database, mirror=mirror)
    (theirs,) = ledgers(tmp_path, x="theirs")
    mirror_all(theirs.rows, theirs.mirror(mirror))
    with pytest.raises(MirrorMismatch):
        list(run)
    asked = run.directory.get("run.json") or {}
    run.directory.put("run.json", asked | {"driver": {**asked["driver"], "pid": 2**22 + 1}})
    assert embed(source, database).unchanged == 1
    assert run.directory.get("report.json")
    assert items(mirror) == {"x": "theirs"}


# -- two at the same time -------------------------------------------------------------------------------------------


def ledgers(tmp_path: Path, **texts: str) -> list[Ledger]:
    """Databases with a table of one row each: key and text, which is also the database's name."""
    made = []
    for key, text in texts.items():
        ledger = Ledger.create(str(tmp_path / text), "scripted", Scripted(), "", "key")
        ledger.rows.commit(written(ledger.rows, {key: text}))
        made.append(ledger)
    return made


def test_a_mirror_that_another_table_took_since_the_run_began(mirror: str, tmp_path: Path) -> None:
    """A mirror that was empty when a run began is checked again before the first commit, which may be hours later."""
    first, second = ledgers(tmp_path, a="one", b="two")
    waiting = second.mirror(mirror)
    mirror_all(first.rows, first.mirror(mirror))
    with pytest.raises(MirrorMismatch, match=r"one/scripted\.lance, not .*two/scripted\.lance"):
        mirror_all(second.rows, waiting)
    assert items(mirror) == {"a": "one"}


@pytest.mark.parametrize("keys", [("a", "b"), ("b", "a"), ("a", "c")])
def test_two_tables_that_find_a_mirror_empty_at_once(
    mirror: str, tmp_path: Path, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one table writes between the other's check and first write, at least one gets an error, for any keys."""
    first, second = ledgers(tmp_path, **dict(zip(keys, ("one", "two"), strict=True)))
    mirrors = [first.mirror(mirror), second.mirror(mirror)]
    look = DynamoTable._check_first_item
    waiting = [lambda: mirror_all(second.rows, mirrors[1])]

    def meanwhile(table: DynamoTable, *arguments: Any) -> bool:
        found = look(table, *arguments)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(DynamoTable, "_check_first_item", meanwhile)
    with pytest.raises(MirrorMismatch, match=r"mirrors .*two/scripted\.lance, not .*one/scripted\.lance"):
        mirror_all(first.rows, mirrors[0])


def test_an_item_of_another_table_is_never_replaced(mirror: str, tmp_path: Path) -> None:
    """Every read of a mirror's items checks their owner again, whatever was seen when the mirror was opened."""
    first, second = ledgers(tmp_path, a="one", b="two")
    mirror_all(first.rows, first.mirror(mirror))
    second.rows.commit(written(second.rows, {"a": "two"}, "2"))
    told = second.rows.metadata | {"fanfold.id": second.id, "fanfold.table": second.rows.uri}
    forced = DynamoTable(mirror, told)
    forced._is_ours = True
    with pytest.raises(MirrorMismatch):
        bring_in_step(second.rows, forced, ["a"])
    assert items(mirror) == {"a": "one"}


def test_rows_that_are_of_no_lance_table(mirror: str) -> None:
    """A script that puts rows without a Lance table needs only their recipe."""
    metadata = {"fanfold.recipe": "r", "fanfold.model": "m"}
    table = DynamoTable.open(mirror, metadata)
    table.put(pa.table({"key": ["k"], "version": ["1"], "text": ["t"]}), {})
    assert DynamoTable.open(mirror, metadata).versions(["k"]) == {"k": "1"}
    assert isinstance(MirrorMismatch("dynamodb://t", "no.", "fanfold"), fanfold.UsageError)
