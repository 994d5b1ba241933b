"""The Lambda's planning: keys per second and memory for a prefix of a million keys.

    .venv/bin/python benches/planning.py [--keys 1000000] [--rounds 1]

The handler runs in a separate process with a real S3 server on loopback (SeaweedFS) for the manifests; a proxy in front
of it (benches/listing.py) makes up the listing, page by page over HTTP like S3. AWS Batch is moto's, which accepts jobs
and runs none. On loopback a page has almost no round trip: on AWS it takes about 50 to 100 ms more, which the last line
adds.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import measure
import results

ROUND_TRIP = 0.075
"""Seconds that S3 takes for a page of 1,000 keys within a region."""

HANDLER = """
import json, time
from fanfold.aws.trigger import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 900_000

began = time.perf_counter()
told = handler({"Paths": ["pictures"]}, Context())
print(json.dumps({"seconds": time.perf_counter() - began, **told}))
"""


def free_port() -> int:
    """A port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(*command: object) -> Iterator[None]:
    """Run a server during the block."""
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        try:
            yield
        finally:
            one.kill()


@contextmanager
def servers(folder: Path, keys: int) -> Iterator[dict[str, str]]:
    """S3 with a bucket of `keys` pictures, and AWS Batch with a queue; the environment for their clients."""
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer", "proxy", "moto")}
    options = [f"-{name}.port={ports[name]}" for name in ("s3", "master", "volume", "filer")]
    options += [f"-{name}.port.grpc={free_port()}" for name in ("s3", "master", "volume", "filer")]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=500"]
    weed = (measure.OURS / "weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", *options)
    listing = (sys.executable, Path(__file__).with_name("listing.py"), ports["proxy"])
    s3 = f"http://127.0.0.1:{ports['s3']}"
    with serving(*weed), serving(*listing, s3, keys), serving(measure.OURS / "moto_server", "-p", ports["moto"]):
        env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['proxy']}",
            "AWS_ENDPOINT_URL_BATCH": f"http://127.0.0.1:{ports['moto']}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        _until_there(f"http://127.0.0.1:{ports['moto']}")
        _until_there(s3)
        _bucket(s3)
        yield env | {"FANFOLD_DEPLOYMENT": json.dumps(_deployment(ports["moto"]))}


def _until_there(address: str) -> None:
    for _ in range(240):
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=1).close()
            return
        time.sleep(0.25)
    raise SystemExit(f"No server answers at {address}.")


def _bucket(s3: str) -> None:
    for _ in range(120):
        with suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(f"{s3}/bench-bucket", method="PUT"), timeout=5).close()
            return
        time.sleep(0.5)
    raise SystemExit(f"The server at {s3} makes no bucket.")


def _deployment(port: int) -> Mapping[str, object]:
    """A queue and job definitions in moto's AWS Batch, described like those of `infra/`."""
    import boto3

    at = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    at |= {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    ec2, iam, batch = (boto3.client(service, **at) for service in ("ec2", "iam", "batch"))
    role = iam.create_role(RoleName="bench", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    resources = {
        "type": "FARGATE",
        "maxvCpus": 4,
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
    }
    environment = batch.create_compute_environment(
        computeEnvironmentName="bench", type="MANAGED", serviceRole=role, computeResources=resources
    )["computeEnvironmentArn"]
    order = [{"order": 1, "computeEnvironment": environment}]
    batch.create_job_queue(jobQueueName="bench", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    for name in ("worker", "driver"):
        container = {"image": "none", "vcpus": 1, "memory": 128}
        batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container)
    addresses = {"bucket": "bench-bucket", "database": "s3://bench-bucket/db"}
    return {"name": "bench", "queue": "bench", "worker": "worker", "driver": "driver", **addresses}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    seconds, measured = [], []
    for _ in range(chosen.rounds):
        folder = Path(tempfile.mkdtemp(prefix="fanfold-bench-"))
        try:
            with servers(folder, chosen.keys) as env:
                done = measure.run([measure.OURS / "python", "-c", HANDLER], env=dict(os.environ) | env, memory=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if done.code:
            raise SystemExit(done.err)
        told = json.loads(done.out.splitlines()[-1])
        assert told["Counts"]["planned"] == chosen.keys, told
        seconds.append(told["seconds"])
        measured.append(done)
    took, cpu, peak = median(seconds), median(one.cpu for one in measured), max(one.peak for one in measured)
    on_aws = took + chosen.keys / 1000 * ROUND_TRIP
    readme = (
        f"The Lambda plans {chosen.keys:,} keys in {took:.0f} s ({chosen.keys / took:,.0f} keys/s), "
        f"with {peak / 1e6:,.0f} MB."
    )
    rest = (
        f"{cpu:.0f} s of CPU time. With {ROUND_TRIP * 1000:.0f} ms more a page of 1,000 keys, as on AWS, that is "
        f"about {on_aws:.0f} s, or {chosen.keys / on_aws * 810 / 1e6:.1f} million keys within the Lambda's time; "
        "beyond that an AWS Batch job plans."
    )
    print(results.record("planning", readme, rest))


if __name__ == "__main__":
    main()
