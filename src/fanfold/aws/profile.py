"""Credentials that `aws configure` or `aws sso login` wrote down, for stores that look into the environment only.

Lance, boto3 and AWS's command line find them by themselves; obstore does not.
"""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider

_ELSEWHERE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SKIP_SIGNATURE",
)
"""Variables by which stores have credentials, or need none."""
_FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}


def credentials() -> "Boto3CredentialProvider | None":
    """What gives a store its credentials and region; None where it has others, or there are none written down.

    Raises UsageError when there is no such profile, or its login has run out.
    """
    files = tuple(os.environ.get(name) or str(Path(usual).expanduser()) for name, usual in _FILES.items())
    if any(map(os.environ.get, _ELSEWHERE)) or not any(Path(file).exists() for file in files) or not find_spec("boto3"):
        return None
    return _of(os.environ.get("AWS_PROFILE"), files)


@cache
def _of(profile: str | None, _files: tuple[str, ...]) -> "Boto3CredentialProvider | None":
    """Made once: it renews what runs out. Named by all that boto3 reads, as the environment has it."""
    from boto3.session import Session
    from obstore.auth.boto3 import Boto3CredentialProvider

    from fanfold.aws.client import errors_of

    with errors_of("S3"):
        session = Session(profile_name=profile, region_name=os.environ.get("AWS_REGION") or None)
        found = session.get_credentials()
        if found is None:
            return None
        found.get_frozen_credentials()  # a login that has run out says so here, in its own words
        return Boto3CredentialProvider(session)
