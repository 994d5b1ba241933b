"""Credentials from `aws configure`, which object stores would not find because they read only the environment."""

from collections.abc import Callable
from pathlib import Path

import pytest

import fanfold
from fanfold import StorageError, UsageError
from fanfold.aws import credentials
from fanfold.storage import exists, open_store
from jobs import Scripted

Configure = Callable[[str], None]


@pytest.fixture(name="configure")
def _configure(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Unset the S3 server's keys from `bucket`, and return a function that writes them to a credentials file."""
    assert bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return lambda name: _write(tmp_path / "credentials", name)


def _write(file: Path, profile: str) -> None:
    file.write_text(f"[{profile}]\naws_access_key_id = key\naws_secret_access_key = secret\n")


def test_a_run_on_s3_with_a_profile(bucket: str, configure: Configure) -> None:
    """Source, database and workers use the credentials that boto3 would use."""
    configure("default")
    for name in ("0.txt", "1.txt"):
        open_store(f"{bucket}/source").put(name, b"text")
    run = fanfold.run(Scripted(), source=f"{bucket}/source", database=f"{bucket}/db")
    assert sum(outcome.ok for outcome in run) == 2
    assert fanfold.open_table(f"{bucket}/db", "scripted").count_rows() == 2


def test_a_profile_by_name(bucket: str, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_PROFILE chooses the profile; a missing one is an error that says what to type."""
    configure("photos")
    monkeypatch.setenv("AWS_PROFILE", "photos")
    assert not exists(f"{bucket}/nothing")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UsageError, match=r"nobody.*aws configure"):
        exists(bucket)


def test_the_environment_comes_first(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported keys are used in preference to a file."""
    configure("default")
    assert credentials.credentials() is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert credentials.credentials() is None


@pytest.mark.usefixtures("configure")
def test_no_credentials_at_all(bucket: str) -> None:
    """Without any credentials, in a file or exported, the error says how to set them."""
    assert credentials.credentials() is None
    with pytest.raises(StorageError, match=r"no credentials for S3. Export AWS_ACCESS_KEY_ID"):
        exists(bucket)
