"""The settings of a deployment: the context values of `cdk deploy -c NAME=VALUE`, checked in one place."""

import json
import re
from dataclasses import dataclass, fields, replace
from typing import Any

from constructs import Node

from fanfold.errors import UsageError
from fanfold.job import JOBS, load

_EMAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+"
_ECR = r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>[a-z0-9._/-]+)"
IMAGE = re.compile(rf"{_ECR}(?::(?P<tag>[\w.-]+)|@(?P<digest>sha256:[0-9a-f]{{64}}))?")
"""The address of a container image in ECR."""

# MiB that Fargate has for so many vCPUs: from, to, in steps of.
# docs.aws.amazon.com/batch/latest/userguide/fargate-job-definitions.html
_FARGATE = {
    1: range(2048, 8192 + 1, 1024),
    2: range(4096, 16384 + 1, 1024),
    4: range(8192, 30720 + 1, 1024),
    8: range(16384, 61440 + 1, 4096),
    16: range(32768, 122880 + 1, 8192),
}
# MiB per vCPU. A compute-optimized machine has 2048, less what its system takes (about 1.8 GiB of the 2 are left).
_MEMORY = {"spot": 1792, "ec2": 1792, "fargate": 2048, "gpu": 3584}
_COMPUTE = tuple(_MEMORY)
_TABLES = ("both", "lance")


@dataclass(frozen=True)
class Settings:
    """The settings. Raises UsageError for a deployment that is not possible."""

    name: str = "fanfold"
    """The deployment's name: the stacks' names begin with it, and `--on aws-batch:NAME` takes it."""
    bucket: str = ""
    """An existing bucket, which is left as it is; a new one by default."""
    compute: str = "spot"
    """`spot` (EC2 Spot), `ec2` (EC2 on demand), `fargate`, or `gpu` (EC2 Spot with an NVIDIA GPU per worker)."""
    vcpus: int = 0
    """vCPUs of a worker's container: as many worker processes, or with a GPU one; 2 by default, 4 with a GPU."""
    memory: int = 0
    """Memory of a worker's container, in MiB; by default what machines have for each vCPU."""
    max_vcpus: int = 32
    """vCPUs of all machines together; the account's quota may be lower."""
    job: str = "images"
    """The job: a name in `JOBS`, or module:Class, which the container image given as `image` must hold."""
    options: str = ""
    """The job's options, as a JSON object."""
    model: str = "efficientnet-lite0"
    """The option `model` of the job `images`, in short."""
    task_size: int = 1000
    """Most items per task."""
    table: str = "both"
    """`both`: the Lance table, and a DynamoDB table that mirrors it; `lance`: the Lance table alone."""
    image: str = ""
    """A container image in ECR to use; by default it is built from the Dockerfile."""
    uploads: tuple[str, ...] = ()
    """Prefixes of the bucket, separated by commas, where an upload starts a run."""
    workflow: bool = False
    """Whether to make a state machine of Step Functions that starts a run and waits for its end."""
    alarm_email: str = ""
    """The e-mail address for alarms."""
    retain: bool = True
    """Whether `cdk destroy` leaves the new bucket and the DynamoDB table."""

    @property
    def job_options(self) -> dict[str, Any]:
        """The options that the container image is built for."""
        provider = "cuda" if self.compute == "gpu" else "cpu"
        own = {"model": self.model, "provider": provider} if self.job == "images" else {}
        return own | (_object(self.options) or {})

    @classmethod
    def of(cls, node: Node) -> "Settings":
        """The settings in the context of an app. Raises UsageError, in one line, for a value that is not valid."""
        known = {field.name: field for field in fields(cls)}
        context = node.get_all_context()
        for name in context:  # the CDK's own names hold ':', '/' or '-'
            if re.fullmatch(r"\w+", name) and name not in known:
                raise UsageError(f"Unknown setting '{name}'. Use one of {', '.join(known)}.")
        given = {name: context[name] for name in known if context.get(name) is not None}
        return cls(**{name: _read(name, value, known[name].default) for name, value in given.items()})._completed()

    def __post_init__(self) -> None:
        for name, (holds, wanted) in self._rules().items():
            if not holds:
                raise UsageError(f"-c {name}={_typed(getattr(self, name))} is not valid. Use {wanted}.")

    def _rules(self) -> dict[str, tuple[bool, str]]:
        """By the name of each setting: whether its value is valid, and which values are."""
        prefixes = all(re.fullmatch(r"[^/*?]+(/[^/*?]+)*", prefix) for prefix in self.uploads)
        apart = not any(prefix.split("/")[0] == "db" for prefix in self.uploads)
        return {
            "name": (_is(r"[a-z][a-z0-9-]{0,29}", self.name), "up to 30 lower-case letters, digits and '-'"),
            "bucket": (not self.bucket or _is(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", self.bucket), "a bucket's name"),
            "compute": (self.compute in _COMPUTE, f"one of {', '.join(_COMPUTE)}"),
            "vcpus": (0 <= self.vcpus <= 96, "a number from 1 to 96"),
            "memory": (self.memory == 0 or self.memory >= 1024, "at least 1024 MiB"),
            "max_vcpus": (self.max_vcpus >= max(1, self.vcpus), "at least a worker's vcpus"),
            "model": (
                _is(r"[a-z0-9][a-z0-9.-]*|hf://[\w./-]+\.onnx(@\w+)?", self.model),
                "a name from `fanfold images models`, or hf://org/repo/path.onnx@revision",
            ),
            "job": (
                self.job in JOBS or (":" in self.job and bool(self.image)),
                f"one of {', '.join(JOBS)}, or module:Class together with -c image=...",
            ),
            "options": (_object(self.options) is not None, 'a JSON object such as {"model": "resnet18"}'),
            "task_size": (1 <= self.task_size <= 1_000_000, "a number from 1 to 1000000"),
            "table": (self.table in _TABLES, f"one of {', '.join(_TABLES)}"),
            "image": (
                not self.image or bool(IMAGE.fullmatch(self.image)),
                "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG",
            ),
            "uploads": (prefixes and apart, "prefixes such as images,more/scans, outside of db"),
            "alarm_email": (not self.alarm_email or _is(_EMAIL, self.alarm_email), "an e-mail address"),
        }

    def _completed(self) -> "Settings":
        """The settings with the defaults that follow from others, checked against each other."""
        if self.job in JOBS and getattr(load(self.job, self.job_options), "gpus", 0) and self.compute != "gpu":
            raise UsageError(f"-c options={self.options} needs a GPU. Add: -c compute=gpu")
        vcpus = self.vcpus or (4 if self.compute == "gpu" else 2)
        memory = self.memory or vcpus * _MEMORY[self.compute]
        if self.compute == "fargate" and memory not in _FARGATE.get(vcpus, ()):
            raise UsageError(f"Fargate does not have {memory} MiB for {vcpus} vCPUs. It has {_fargate()}.")
        return replace(self, vcpus=vcpus, memory=memory)


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text, {} for an empty text; None if it is not a JSON object."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _is(pattern: str, text: str) -> bool:
    return bool(re.fullmatch(pattern, text))


def _read(name: str, value: Any, default: Any) -> Any:
    """A value of the command line, which is text, or of cdk.json, as the type of its default."""
    text = _typed(value)
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise UsageError(f"-c {name}={text} is not valid. Use true or false.")
        return text == "true"
    if isinstance(default, int):
        if not _is(r"[1-9]\d{0,8}", text):
            raise UsageError(f"-c {name}={text} is not valid. Use a number from 1 up.")
        return int(text)
    return tuple(part.strip().strip("/") for part in text.split(",") if part.strip()) if default == () else text


def _typed(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, (bool, dict)):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _fargate() -> str:
    return ", ".join(f"{vcpus}: {sizes[0]}-{sizes[-1]} in steps of {sizes.step}" for vcpus, sizes in _FARGATE.items())
