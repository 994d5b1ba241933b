"""The package has everything it declares, and its declarations about jobs are true for every job."""

import ast
import dataclasses
import importlib
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fanfold
from fanfold import errors
from fanfold.job import JOBS, Job

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXAMPLES = list((ROOT / "examples").glob("*.py"))
HEAVY = {"pyarrow", "lance", "numpy", "obstore", "rich", "cyclopts", "PIL", "onnxruntime", "onnx", "asyncio"}


def imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after running some code."""
    program = f"{code}\nimport sys; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_public_name_can_be_imported() -> None:
    """Each name in `__all__` exists, and belongs to a module of fanfold."""
    assert fanfold.__all__ == sorted(set(fanfold.__all__))
    for name in fanfold.__all__:
        found = getattr(fanfold, name)
        assert found.__name__ == name
        assert found.__module__.startswith("fanfold.")


def test_all_is_what_there_is() -> None:
    """`__all__`, the lazy imports, and the imports for type checkers have the same names."""
    tree = ast.parse((ROOT / "src" / "fanfold" / "__init__.py").read_text())
    seen = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(set(seen) - {"TYPE_CHECKING", "Any"}) == fanfold.__all__ == sorted(fanfold._HOMES)
    assert set(fanfold.__all__) <= set(dir(fanfold))


def test_star_import() -> None:
    """`from fanfold import *` gives exactly the public names."""
    names: dict[str, object] = {}
    exec("from fanfold import *", names)
    assert names.keys() - {"__builtins__"} == set(fanfold.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A missing name fails as in any module."""
    with pytest.raises(AttributeError, match="'fanfold' has no attribute 'nothing'"):
        fanfold.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from fanfold import nothing")


def test_importing_fanfold_imports_nothing_heavy() -> None:
    """The package alone costs a millisecond."""
    assert not imported_by("import fanfold") & HEAVY


def test_the_core_does_not_import_the_jobs() -> None:
    """Driving, planning and committing need no extras and no terminal libraries."""
    loaded = imported_by("import fanfold.core.run, fanfold.core.worker, fanfold.executors.local")
    assert not loaded & {"PIL", "onnxruntime", "onnx", "rich", "cyclopts", "lancedb"}


def test_what_only_some_commands_need() -> None:
    """The prices (for plans) and what runs models, draws or calls AWS are imported by the commands that use them."""
    clis = {f"{job.address.partition(':')[0]}.cli" for job in JOBS.values()}
    program = f"import sys, fanfold.api, fanfold.cli, {', '.join(clis)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert clis < loaded
    late = {"fanfold.estimate.prices", "onnxruntime", "onnx", "openvino", "matplotlib", "boto3", "ray"}
    assert not loaded & late


def test_the_version_is_in_one_place() -> None:
    """The metadata's version is the package's own, and is a valid version."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert importlib.import_module("importlib.metadata").version("fanfold") == fanfold.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", fanfold.__version__)


def test_types_are_shipped() -> None:
    """Users' type checkers find the package typed."""
    assert (ROOT / "src" / "fanfold" / "py.typed").exists()


@pytest.mark.parametrize("name", JOBS)
def test_every_job_is_complete(name: str) -> None:
    """A job has a frozen dataclass, an extra, a page in the docs, an example and a row in the README."""
    module, _, attribute = JOBS[name].address.partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert cls.name == name
    assert isinstance(cls(), Job)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in getattr(cls, "suffixes", ()))
    assert [field.name for field in cls().schema()][:2] == ["key", "version"]
    assert name in PROJECT["project"]["optional-dependencies"]
    assert (ROOT / "docs" / f"{name}.md").exists()
    assert any(f'"{name}"' in example.read_text() or attribute in example.read_text() for example in EXAMPLES)
    assert f"fanfold {name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", JOBS)
def test_every_option_of_a_job_has_help(name: str) -> None:
    """The dataclass's fields are the options, each with a sentence for the help and the docs."""
    module, _, attribute = JOBS[name].address.partition(":")
    for field in dataclasses.fields(getattr(importlib.import_module(module), attribute)):
        assert field.metadata["help"], field.name


def test_every_error_pickles() -> None:
    """Errors keep their facts and their message across processes."""
    facts = ("table", "theirs", "ours", "free")
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FanfoldError)]
    assert len(found) >= 6
    sizes = {
        errors.MissingExtra: 2,
        errors.SourceGone: 2,
        errors.MirrorMismatch: 3,
        errors.RecipeMismatch: 4,
        errors.SourceMismatch: 4,
    }
    for kind in found:
        error = kind(*facts[: sizes.get(kind, 1)])
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.args, str(again)) == (kind, error.args, str(error))


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """The drawing at the top of errors.py names every error, and each has the right exit code."""
    assert errors.__doc__ is not None
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.FanfoldError):
            assert name in errors.__doc__
            assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


def test_an_absent_extra_is_named() -> None:
    """Without its dependencies a job names the extra to install."""
    program = """
import sys
from fanfold.errors import MissingExtra
from fanfold.job import load
sys.modules["onnxruntime"] = None
try:
    load("images", {}).open()
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'fanfold[images]'" in done.stdout


def test_an_executor_without_its_extra_says_so() -> None:
    """Without Ray, `--on ray` names the extra, and other executors do not need it."""
    program = """
import sys
sys.modules["ray"] = None
from fanfold.errors import MissingExtra
from fanfold.executors import open_executor
open_executor("local")
try:
    open_executor("ray")
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "The executor 'ray' needs the extra 'ray'. Install it with: pip install 'fanfold[ray]'\n"


@pytest.mark.xdist_group("itself")
def test_the_groups_of_tests_are_in_force(request: pytest.FixtureRequest, worker_id: str) -> None:
    """With several workers of pytest-xdist, a test's id names its group: some pairs of versions ignore groups, and then
    the suite takes three times as long."""
    assert request.node.nodeid.endswith("@itself" if worker_id != "master" else "in_force")
