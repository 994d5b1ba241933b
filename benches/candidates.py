"""The candidates of benches/images.py, each with its best settings (see benches/tune.py)."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import measure
import numpy as np
import pictures

from fanfold.images.models.openvino import has_bf16

WORK = pictures.DATA / "work"
"""The folder for the candidates' vectors and fanfold's database."""

Settings = Mapping[str, int | str]
"""A program's settings; those in capitals are environment variables."""


QUIET: Settings = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0"}


@dataclass(frozen=True)
class Task:
    """The input of every candidate: the same pictures, the same weights."""

    folder: Path
    paths: list[Path]

    @property
    def list(self) -> Path:
        """A file of the pictures' paths, one per line."""
        WORK.mkdir(parents=True, exist_ok=True)
        file = WORK / f"{self.folder.name}.paths"
        file.write_text("\n".join(map(str, self.paths)))
        return file


@dataclass(frozen=True)
class Result:
    """The time and memory of a candidate."""

    pictures: int
    seconds: float
    """Seconds of work, after imports and loading the model."""
    wall: float
    cpu: float
    peak: int

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.pictures / self.seconds


@dataclass(frozen=True)
class Peer:
    """A program of benches/peers; see common.py there for its command line."""

    name: str
    label: str
    program: str
    settings: Settings = field(default_factory=dict)
    others: tuple[Settings, ...] = ()
    """Other settings that were tried."""

    def run(self, task: Task, memory: bool = False, settings: Settings | None = None) -> Result:
        """Embed the pictures; afterwards the vectors are in `vectors`."""
        chosen = {name: str(value) for name, value in (QUIET | self.settings | (settings or {})).items()}
        env = {name: value for name, value in chosen.items() if name.isupper()}
        command = [measure.PEERS / "python", measure.ROOT / "benches" / "peers" / self.program]
        command += [task.list, plain_model(), WORK / f"{self.name}.npy"]
        command += [f"{name}={value}" for name, value in chosen.items() if name not in env]
        (WORK / f"{self.name}.started").unlink(missing_ok=True)  # left by an interrupted run
        took = measure.checked(measure.run(command, env, memory))
        seconds = json.loads(took.out.splitlines()[-1])["seconds"]
        return Result(len(task.paths), seconds, took.wall, took.cpu, took.peak)

    def vectors(self, task: Task) -> np.ndarray:
        """float32[n, 1280], in the order of the list."""
        found = np.load(WORK / f"{self.name}.npy")
        assert len(found) == len(task.paths)
        return found


@dataclass(frozen=True)
class Fanfold:
    """The command line, as a user types it, into a new database each time."""

    name: str = "fanfold"
    label: str = "**fanfold**"
    flags: tuple[str, ...] = ()
    others: tuple[Settings, ...] = ()
    program: Path = measure.OURS / "fanfold"

    @property
    def database(self) -> Path:
        """A folder for the database."""
        return WORK / f"{self.name}.db"

    def run(self, task: Task, memory: bool = False, settings: Settings | None = None) -> Result:
        """Embed the folder."""
        shutil.rmtree(self.database, ignore_errors=True)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in (settings or {}).items()]
        command = [self.program, "images", "embed", task.folder, self.database, "--json"]
        took = measure.checked(measure.run([*command, *self.flags, *flags], memory=memory))
        report = json.loads(took.out)
        if report["ok"] != len(task.paths):
            raise SystemExit(f"fanfold embedded {report['ok']} of {len(task.paths)} pictures: {report}")
        return Result(report["ok"], report["seconds"] - self._set_up(report["run"]), took.wall, took.cpu, took.peak)

    def _set_up(self, run: str) -> float:
        """Seconds from the run's start until the first worker had its model and took its first task."""
        directory = self.database / "_runs" / run
        asked = json.loads((directory / "run.json").read_text())
        receipts = [json.loads(file.read_text()) for file in directory.glob("receipts/*.json")]
        return min(receipt["started"] for receipt in receipts) - datetime.fromisoformat(asked["started"]).timestamp()

    def vectors(self, task: Task) -> np.ndarray:
        """float32[n, 1280], in the order of the list."""
        import lance

        rows = lance.dataset(str(self.database / "images.lance")).to_table(["key", "vector"])
        matrix = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        place = {key: number for number, key in enumerate(rows["key"].to_pylist())}
        return matrix[[place[str(path.relative_to(task.folder))] for path in task.paths]]


def plain_model() -> Path:
    """Lite0 as an ONNX file with normalised floats as input, as most programs need; fanfold makes its model from it."""
    file = WORK / "efficientnet-lite0.onnx"
    if not file.exists():
        import onnx

        from fanfold.images.models.efficientnet_lite import LITE0

        WORK.mkdir(parents=True, exist_ok=True)
        onnx.save(LITE0.build(), file)
    return file


# glibc returns freed memory to the system at once, and PyTorch's feature maps are large: on a CPU half of the time is
# spent on mapping pages again. These settings keep them; jemalloc, which PyTorch's tuning guide advises, does the same.
_KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(10**11),
    "MALLOC_TOP_PAD_": "268435456",
}
# OpenMP's threads wait for each other in a busy loop, which takes the workers' cores from them.
_NO_SPINNING = {"OMP_WAIT_POLICY": "passive"}

LOADER = Peer(
    "loader",
    "PyTorch DataLoader, 2 workers, batch 32",
    "torch_loader.py",
    # Two threads for the network, although the workers decode meanwhile, because it is nine tenths of the work.
    {"workers": 2, "threads": 2, "batch": 32},
    others=({"threads": 1}, {"workers": 1}, {"batch": 8}, _NO_SPINNING),
)
TUNED = Peer(
    "tuned",
    "the same, tuned by hand",
    "torch_loader.py",
    {"workers": 2, "threads": 2, "batch": 32, "channels_last": 1, "draft": 1, **_KEEP_MEMORY, **_NO_SPINNING},
    others=(
        {"threads": 1},
        {"workers": 1},
        {"batch": 8},
        {"channels_last": 0},
        {"frozen": 1},
        {"frozen": 1, "channels_last": 0},
        {"compiled": 1},
        {"OMP_WAIT_POLICY": "active"},
    ),
)
TUNED_BF16 = replace(
    TUNED,
    name="tuned-bf16",
    label="the same, by torch.autocast(bfloat16)",
    settings=TUNED.settings | {"bf16": 1},
    others=({"channels_last": 0}, {"batch": 8}, {"threads": 1}),
)
LOOP = Peer(
    "loop",
    "the article's loop: PyTorch, one at a time",
    "torch_loop.py",
    {"threads": 2},
    others=({"threads": 1}, _NO_SPINNING),
)
FASTEMBED = Peer(
    "fastembed",
    "fastembed",
    "with_fastembed.py",
    {"parallel": 2, "batch": 16},
    others=({"parallel": 0}, {"batch": 4}, {"batch": 1}, {"batch": 4, "parallel": 0}, {"batch": 64}),
)
DAFT = Peer(
    "daft",
    "Daft, batch UDF",
    "with_daft.py",
    {"rust": 0, "batch": 16, "threads": 1, "instances": 2, "process": 1},
    others=({"rust": 1}, {"process": 0}, {"batch": 4}, {"batch": 64}, {"instances": 3}, {"instances": 1, "threads": 2}),
)
RAY = Peer(
    "ray",
    "Ray Data, a pool of actors",
    "with_ray.py",
    {"actors": 2, "threads": 1, "batch": 16, "RAY_USAGE_STATS_ENABLED": "0"},
    others=({"actors": 1, "threads": 2}, {"batch": 4}, {"batch": 64}, {"blocks": 4}),
)
FANFOLD_RAY = Fanfold("fanfold-ray", "fanfold `--on ray`", ("--on", "ray"))
FANFOLD = Fanfold(others=({"batch_size": 1}, {"batch_size": 4}, {"batch_size": 8}))
FANFOLD_BF16 = Fanfold("fanfold-bf16", "**fanfold** `--precision bf16`", ("--precision", "bf16"))
FANFOLD_INT8 = Fanfold("fanfold-int8", "**fanfold** `--precision int8`", ("--precision", "int8"))

CANDIDATES: tuple[Fanfold | Peer, ...] = (
    *(FANFOLD, *((FANFOLD_BF16,) if has_bf16() else ()), FANFOLD_INT8),
    *(LOADER, TUNED, TUNED_BF16, LOOP, FASTEMBED, DAFT, FANFOLD_RAY, RAY),
)


BEFORE = "before"


def before(program: Path) -> Fanfold:
    """Another version of fanfold, from an environment of its own."""
    return Fanfold(BEFORE, "fanfold before", program=program)
