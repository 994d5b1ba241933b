"""Fixtures: the templates of a deployment, synthesised once for every choice under test."""

import os
import sys

import pytest
from emulator import ABSENT, FLAGS, IMAGE, ROOT
from templates import Stacks, Synthesise

sys.path.insert(0, str(ROOT))  # for `infra`
os.environ["JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION"] = "20"
COMPUTE = ("spot", "ec2", "fargate", "gpu")


@pytest.fixture(scope="session")
def synthesise(tmp_path_factory: pytest.TempPathFactory) -> Synthesise:
    """Synthesise a deployment with these context values; equal ones are synthesised only once."""
    if ABSENT:
        pytest.skip(ABSENT)
    known: dict[tuple[tuple[str, str], ...], Stacks] = {}

    def synthesise(*, image: str = IMAGE, **context: str) -> Stacks:
        from aws_cdk import App
        from infra.app import build

        key = tuple(sorted({**context, "image": image}.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("cdk")
            app = App(outdir=str(folder), context=FLAGS | {name: value for name, value in key if value})
            build(app)
            app.synth()
            known[key] = Stacks(folder, context.get("name", "fanfold"))
        return known[key]

    return synthesise


@pytest.fixture(scope="session", params=COMPUTE)
def stacks(request: pytest.FixtureRequest, synthesise: Synthesise) -> Stacks:
    """Each choice of compute with the other defaults and an existing container image."""
    return synthesise(compute=request.param)
