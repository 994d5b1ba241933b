"""A run reports nothing: no connection, and no file outside cache, database and temporary folder."""

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fanfold

ROOT = Path(__file__).parent.parent.parent
CODE = Path(fanfold.__file__).parent
FANFOLD = str(Path(sys.executable).parent / "fanfold")
REPORTING = ("CI", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
"""Variables that keep ONNX Runtime from reporting; a user's environment has none of them."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="pictures", scope="module")
def _pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, as many as INT8 needs."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(16):
        noise = np.random.default_rng(number).integers(0, 255, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02d}.jpg")
    return folder


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with an empty `home` and a temporary folder, `scratch`."""
    place = tmp_path_factory.mktemp("place")
    (place / "home").mkdir()
    (place / "scratch").mkdir()
    return place


@pytest.fixture(name="run", scope="module")
def _run(place: Path) -> Run:
    """Run a command there as a user whose home is `home`, and whose cache is elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name not in REPORTING}
    environment |= {"HOME": str(place / "home"), "FANFOLD_CACHE": str(place / "cache")}
    environment |= {"TMPDIR": str(place / "scratch"), "XDG_CACHE_HOME": str(place / "home" / "cache")}

    def run(*command: object) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*map(str, command)], env=environment, cwd=place, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


Embed = Callable[[str], list[str]]


@pytest.fixture(name="embed", scope="module")
def _embed(pictures: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Embed:
    """Embed the pictures into `db` with an engine; return the system calls, if there is strace."""
    trace = tmp_path_factory.mktemp("trace") / "trace"
    traced = ("strace", "-f", "-qq", "-o", trace, "-e", "trace=network,openat,creat,mkdir,mkdirat,rename,renameat")

    @functools.cache
    def embed(engine: str) -> list[str]:
        command = (FANFOLD, "images", "embed", pictures, "db", "--engine", engine, "--workers", 1, "--table", engine)
        if not shutil.which("strace"):
            run(*command)
            return []
        run(*traced, *command)
        return trace.read_text().splitlines()

    return embed


def test_no_verb_leaves_anything_in_the_home_folder(pictures: Path, embed: Embed, run: Run, place: Path) -> None:
    """Embedding, planning, searching by a picture, calibrating and the doctor write only to cache and database."""
    embed("onnxruntime")
    run(FANFOLD, "images", "search", "db", pictures / "03.jpg", "--table", "onnxruntime")
    run(FANFOLD, "plan", "images", pictures, "other", "--workers", 1)
    run(FANFOLD, "images", "quantize", pictures, "int8.onnx", "--min-cosine", 0)
    run(FANFOLD, "doctor")
    assert sorted(path.name for path in place.iterdir()) == ["cache", "db", "home", "int8.onnx", "scratch"]
    assert not list((place / "home").rglob("*"))
    assert not list((place / "scratch").rglob("*"))


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_embedding_makes_no_connection(engine: str, embed: Embed, place: Path) -> None:
    """No process of a run makes an internet socket, or a file outside cache, database and temporary folder."""
    calls = embed(engine)
    assert len(calls) > 1000  # the trace is not empty
    assert not [call for call in calls if "AF_INET" in call]
    made = [call for call in calls if "O_CREAT" in call or "mkdir" in call or "creat(" in call]
    folders = [place / name for name in ("db", "cache", "scratch")]
    elsewhere = [call for call in made if not any(f'"{folder}' in call for folder in folders)]
    assert not [call for call in elsewhere if re.search(r'"/(?!dev/)|\(\d+, "', call)], elsewhere


def test_only_the_job_imports_what_would_report() -> None:
    """What sends reports is imported only below `fanfold.images`, which first turns them off."""
    silent = {"onnxruntime", "huggingface_hub", "openvino"}
    for file in CODE.rglob("*.py"):
        imported = {name.partition(".")[0] for name in _imports(ast.parse(file.read_text()))}
        assert not imported & silent or file.is_relative_to(CODE / "images"), file


def _imports(tree: ast.AST) -> list[str]:
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    plain = [alias.name for node in lines if isinstance(node, ast.Import) for alias in node.names]
    return plain + [str(node.module) for node in lines if isinstance(node, ast.ImportFrom)]


def test_what_is_deployed_reports_nothing() -> None:
    """The container image turns reporting off for everything in it, and the project for the CDK's command line."""
    assert "ORT_DISABLE_TELEMETRY=1" in (ROOT / "infra" / "Dockerfile").read_text()
    settings = json.loads((ROOT / "cdk.json").read_text())
    assert settings["versionReporting"] is False
    assert settings["context"]["cli-telemetry"] is False
