"""Credentials that `aws configure` or `aws sso login` saved, for stores that read only the environment.

Lance, boto3 and AWS's command line find them by themselves; obstore does not. `fanfold.storage` imports this module by
name when it opens a bucket of S3, so neither this module nor `client` imports `fanfold.storage`.
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
"""Variables that give stores their credentials, or make them unnecessary."""
_FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}


def credentials() -> "Boto3CredentialProvider | None":
    """The provider of a store's credentials and region; None if the store has others, or if none are saved.

    Raises UsageError when the profile does not exist, or its login has expired.
    """
    files = tuple(os.environ.get(name) or str(Path(usual).expanduser()) for name, usual in _FILES.items())
    if any(map(os.environ.get, _ELSEWHERE)) or not any(Path(file).exists() for file in files) or not find_spec("boto3"):
        return None
    return _of(os.environ.get("AWS_PROFILE"), files)


@cache
def _of(profile: str | None, _files: tuple[str, ...]) -> "Boto3CredentialProvider | None":
    """Made once, since it renews what expires. Cached by everything that boto3 reads from the environment."""
    from boto3.session import Session
    from obstore.auth.boto3 import Boto3CredentialProvider

    from fanfold.aws.client import aws_errors

    with aws_errors("S3"):
        session = Session(profile_name=profile, region_name=os.environ.get("AWS_REGION") or None)
        found = session.get_credentials()
        if found is None:
            return None
        found.get_frozen_credentials()  # a login that has expired raises here
        return Boto3CredentialProvider(session)
