"""The price table: what it holds, what is said to one that cannot be, and that the documentation uses the same."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.aws import prices
from fanfold.aws.prices import Machine
from fanfold.errors import UsageError

OURS = prices.load()
README = Path(__file__).parent.parent / "infra" / "README.md"
stages = st.dictionaries(st.sampled_from(["decode", "embed", "write"]), st.floats(1e-6, 10), min_size=1)


def machine(**changes: object) -> Machine:
    """A machine of one vCPU at a dollar an hour."""
    told = {"name": "m", "vcpus": 1, "memory": 1, "spot": 1, "speed": 1, "hour": 1.0} | changes
    return Machine(**told)  # type: ignore[arg-type]


def test_our_table_is_dated_and_says_where_it_is_from() -> None:
    """It has a date, a region, AWS's pages, and the four ways to pay that a deployment has."""
    assert date.fromisoformat(OURS.date) <= date.today()
    assert OURS.region == "us-east-1"
    assert all(page.startswith("https://aws.amazon.com/") for page in OURS.pages)
    names = {one.name for one in OURS.machines}
    assert names == {"EC2 Spot", "EC2 on demand", "Fargate", "GPU, EC2 Spot"}


def test_the_worked_example_is_reckoned_with_the_table() -> None:
    """infra/README.md's dollars for a million pictures are what the table gives at 38 pictures a second and vCPU."""
    kinds = {one.name: one for one in OURS.machines}
    hours = 1e6 / 38 / 3600 * OURS.overhead
    work, asked = {"work": 1 / 38}, OURS.requests(1e6, 1000)
    spot = OURS.work(kinds["EC2 Spot"], work, 1e6)
    machines = hours / 2 * kinds["EC2 Spot"].dollars
    rows = dict(re.findall(r"^\| (.*?) \| .*?\| ([\d.]+|\*\*[\d.]+\*\*) \|$", README.read_text(), re.MULTILINE))
    told = {name: float(value.strip("*")) for name, value in rows.items()}
    assert told["machines"] == round(machines, 2)
    assert told["their disks and addresses"] == round(spot - machines, 2)
    assert told["S3: reading pictures"] == OURS.get
    assert told["S3: listing, manifests, fragments, receipts"] == round(asked - OURS.get, 2)
    assert told["**with `table=lance`**"] == round(spot + asked, 2)
    assert told["**with `table=both`, 1280-d**"] == round(spot + asked + 3.75 + 0.375, 2)
    text = README.read_text()
    on_demand, fargate = (hours / 2 * kinds[name].dollars for name in ("EC2 on demand", "Fargate"))
    assert f"On demand, machines cost {on_demand:.2f};" in text
    assert f"= {fargate:.2f}." in text
    assert "Fargate Spot" not in text  # it cannot be chosen


def test_an_hour_of_fargate_is_its_cpus_and_its_memory() -> None:
    """A container pays for each vCPU and each GB; Spot takes a share of both."""
    told = machine(vcpus=2, memory=4, hour=0, vcpu_hour=0.04, gb_hour=0.005, spot=0.5)
    assert told.dollars == pytest.approx((2 * 0.04 + 4 * 0.005) / 2)


def test_a_gpu_takes_its_stage_and_the_cpus_the_rest() -> None:
    """The slower of the two says how long a machine takes; what does not fit a GPU is left out of the costs."""
    work = {"decode": 4.0, "embed": 10.0}
    assert machine(vcpus=4, gpu_stage="embed", gpu_speed=100.0).seconds(work) == pytest.approx(1.0)
    assert machine(vcpus=4, gpu_stage="embed", gpu_speed=2.0).seconds(work) == pytest.approx(5.0)
    assert "GPU, EC2 Spot" not in {cost.name for cost in OURS.costs({"hash": 1.0}, 10, 1, 1000)}


@given(stages, st.integers(1, 10**9))
def test_costs_grow_with_the_work(work: dict[str, float], items: int) -> None:
    """Twice the time an item costs more, on every kind of machine; and so do twice the items."""
    once = OURS.costs(work, items, 1, 1000)
    slower = OURS.costs({stage: 2 * seconds for stage, seconds in work.items()}, items, 1, 1000)
    more = OURS.costs(work, 2 * items, 1, 1000)
    for cost, slow, double in zip(once, slower, more, strict=True):
        assert slow.per_million > cost.per_million
        assert double.this_run > cost.this_run


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """A copy with another price gives other dollars."""
    file = tmp_path / "prices.toml"
    file.write_text(prices.OURS.read_text().replace("overhead = 1.3", "overhead = 2.6"))
    work = {"work": 1.0}
    kind = OURS.machines[0]
    assert prices.load(file).work(kind, work, 10) == pytest.approx(2 * OURS.work(kind, work, 10))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('date = "2026-11-23"', 'date = "soon"', "needs a `date` such as 2026-11-23, not 'soon'"),
        ('region = "us-east-1"', "", "needs a text for `region`"),
        ("overhead = 1.3", "overhead = 0", "needs a number above 0 for `overhead` in the table, not 0"),
        ("overhead = 1.3", "overhed = 1.3", "has `overhed` in the table, which nobody knows"),
        ("address = 0.005", "address = -1", "needs a number from 0 up for `address`"),
        ("address = 0.005", "address = nan", "needs a number from 0 up for `address`"),
        ("[requests]", "[request]", "has `request` in the table"),
        ("get = 0.40", "get = true", "needs a number from 0 up for `get` in [requests], not True"),
        ("vcpus = 2", "vcpus = 0", "needs a number above 0 for `vcpus` in 'EC2 Spot'"),
        ("spot = 0.5", "", "needs a number above 0 for `spot` in 'EC2 Spot', not None"),
        ("hour = 0.085 # c5.large", "", "has 'EC2 Spot' without a price: give `hour`"),
        ("hour = 0.085", "price = 0.085", "has `price` in 'EC2 Spot'"),
        ("gpu_speed = 20.0", "", "with one of `gpu_stage` and `gpu_speed`"),
        ("measured = false", 'measured = "no"', "needs true or false for `measured`"),
        ("pages = [", "pages = [3, ", "`pages` that are no list of texts"),
        ("[[machine]]", "[[", "is not TOML"),
    ],
)
def test_a_table_that_cannot_be(old: str, new: str, says: str, tmp_path: Path) -> None:
    """It is refused in a sentence that names the file, what is wrong, and a table that works."""
    file = tmp_path / "mine.toml"
    text = prices.OURS.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError) as refused:
        prices.load(file)
    assert says in str(refused.value)
    assert "mine.toml" in str(refused.value)
    assert str(prices.OURS) in str(refused.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    """Neither a missing file nor one without machines is taken for a table."""
    with pytest.raises(UsageError, match=r"Cannot read the prices in .*absent"):
        prices.load(tmp_path / "absent")
    (tmp_path / "bare.toml").write_text("[requests]\nget = 1\nput = 1\n")
    with pytest.raises(UsageError, match="at least one"):
        prices.load(tmp_path / "bare.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        prices.load(tmp_path / "binary.toml")


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_what_is_no_file_is_no_table(path: str) -> None:
    """A device, which might never end, and a folder are refused by name."""
    with pytest.raises(UsageError, match=f"{path}: it is not a file"):
        prices.load(path)
