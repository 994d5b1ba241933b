"""The price table: its content, the errors for invalid ones, and that the documentation uses the same prices."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import UsageError
from fanfold.estimate import prices
from fanfold.estimate.prices import Machine

OURS = prices.load()
README = Path(__file__).parents[2] / "infra" / "README.md"
stages = st.dictionaries(st.sampled_from(["decode", "embed", "write"]), st.floats(1e-6, 10), min_size=1)


def machine(**changes: object) -> Machine:
    """A machine of one vCPU at a dollar an hour."""
    settings = {"name": "m", "vcpus": 1, "memory": 1, "spot": 1, "speed": 1, "hour": 1.0} | changes
    return Machine(**settings)  # type: ignore[arg-type]


def test_our_table_is_dated_and_says_where_it_is_from() -> None:
    """The table has a date, a region, AWS's pages, and the four ways to pay for a deployment."""
    assert date.fromisoformat(OURS.date) <= date.today()
    assert OURS.region == "us-east-1"
    assert all(page.startswith("https://aws.amazon.com/") for page in OURS.pages)
    names = {one.name for one in OURS.machines}
    assert names == {"EC2 Spot", "EC2 on demand", "Fargate", "GPU, EC2 Spot"}


def test_the_worked_example_is_reckoned_with_the_table() -> None:
    """infra/README.md's dollars for a million pictures match the table at 38 pictures per second and vCPU."""
    kinds = {one.name: one for one in OURS.machines}
    hours = 1e6 / 38 / 3600 * OURS.overhead
    work, asked = {"work": 1 / 38}, OURS.requests(1e6, 1000)
    spot = OURS.work(kinds["EC2 Spot"], work, 1e6)
    machines = hours / 2 * kinds["EC2 Spot"].dollars
    rows = dict(re.findall(r"^\| (.*?) \| .*?\| ([\d.]+|\*\*[\d.]+\*\*) \|$", README.read_text(), re.MULTILINE))
    told = {name: float(value.strip("*")) for name, value in rows.items()}
    assert told["machines"] == round(machines, 2)
    assert told["their disks and addresses"] == round(spot - machines, 2)
    assert told["S3: reading pictures"] == OURS.s3.get
    assert told["S3: listing, manifests, fragments, receipts"] == round(asked - OURS.s3.get, 2)
    assert told["**with `table=lance`**"] == round(spot + asked, 2)
    assert told["**with `table=both`, 1280-d**"] == round(spot + asked + 3.75 + 0.375, 2)
    text = README.read_text()
    on_demand, fargate = (hours / 2 * kinds[name].dollars for name in ("EC2 on demand", "Fargate"))
    assert f"On demand, machines cost {on_demand:.2f};" in text
    assert f"= {fargate:.2f}." in text
    assert "Fargate Spot" not in text  # it cannot be chosen


def test_an_hour_of_fargate_is_its_cpus_and_its_memory() -> None:
    """A container pays for each vCPU and each GB; Spot has a factor for both."""
    told = machine(vcpus=2, memory=4, hour=0, vcpu_hour=0.04, gb_hour=0.005, spot=0.5)
    assert told.dollars == pytest.approx((2 * 0.04 + 4 * 0.005) / 2)


def test_a_gpu_takes_its_stage_and_the_cpus_the_rest() -> None:
    """The slower of the two determines a machine's time, and work that does not fit a GPU has no GPU cost."""
    work = {"decode": 4.0, "embed": 10.0}
    assert machine(vcpus=4, gpu_stage="embed", gpu_speed=100.0).seconds(work) == pytest.approx(1.0)
    assert machine(vcpus=4, gpu_stage="embed", gpu_speed=2.0).seconds(work) == pytest.approx(5.0)
    assert "GPU, EC2 Spot" not in {cost.name for cost in OURS.costs({"hash": 1.0}, 10, 1, 1000)}


@given(stages, st.integers(1, 10**9))
def test_costs_grow_with_the_work(work: dict[str, float], items: int) -> None:
    """Twice the time per item costs more on every kind of machine, and so do twice as many items."""
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
        ('date = "2026-11-23"', 'date = "soon"', "date: it should be a date such as 2026-11-23, not soon"),
        ('region = "us-east-1"', "", "region: it is missing"),
        ('region = "us-east-1"', 'region = ""', "region: it should have at least 1 character"),
        ("overhead = 1.3", "overhead = 0", "overhead: it should be greater than 0, not 0"),
        ("overhead = 1.3", "overhed = 1.3", "over"),
        ("address = 0.005", "address = -1", "address: it should be greater than or equal to 0, not -1"),
        ("address = 0.005", "address = nan", "address: it should be"),
        ("address = 0.005", "address = inf", "address: it should be less than"),
        ("[requests]", "[request]", "requests: it is missing"),
        ("get = 0.40", "get = true", "requests.get: it should be a valid number, not True"),
        ("vcpus = 2", "vcpus = 0", "'EC2 Spot'.vcpus: it should be greater than 0, not 0"),
        ("spot = 0.5", "", "'EC2 Spot'.spot: it is missing"),
        ("hour = 0.085 # c5.large", "", "'EC2 Spot': it has no price: give `hour`"),
        ("hour = 0.085", "price = 0.085", "'EC2 Spot'.price: there is no such setting"),
        ("gpu_speed = 20.0", "", "it has only one of `gpu_stage` and `gpu_speed`: give both"),
        ("measured = false", 'measured = "no"', "'EC2 Spot'.measured: it should be a valid boolean, not 'no'"),
        ("pages = [", "pages = [3, ", "pages[1]: it should be a valid string, not 3"),
        ("[[machine]]", "[[", "is not TOML"),
    ],
)
def test_a_table_that_cannot_be(old: str, new: str, says: str, tmp_path: Path) -> None:
    """An invalid table is refused in a sentence with the file, what is wrong, and a table that works."""
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
    """A missing file and a file without machines are refused."""
    with pytest.raises(UsageError, match=r"Cannot read the prices in .*absent"):
        prices.load(tmp_path / "absent")
    (tmp_path / "bare.toml").write_text("[requests]\nget = 1\nput = 1\n")
    with pytest.raises(UsageError, match="is not valid: "):
        prices.load(tmp_path / "bare.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        prices.load(tmp_path / "binary.toml")


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_what_is_no_file_is_no_table(path: str) -> None:
    """A device, which might never end, and a folder are refused by name."""
    with pytest.raises(UsageError, match=f"{path}: it is not a file"):
        prices.load(path)
