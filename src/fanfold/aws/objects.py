"""S3's objects by S3's own API, which takes every key literally.

Listings are parsed here: botocore takes 140 ms for a page of 1000 keys, this code 12.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from botocore import UNSIGNED

from fanfold.aws.client import FAILED, ClientError, aws_errors, connect, text_of

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})


class S3Objects:
    """The objects of one bucket. It uses obstore's credentials, region and endpoint."""

    def __init__(self, bucket: str) -> None:
        self._address = f"s3://{bucket}"
        self._asked: dict[str, Any] = {"Bucket": bucket}
        if _is_set("AWS_REQUEST_PAYER"):
            self._asked["RequestPayer"] = "requester"
        self._client = connect("s3", self._address, **_settings(bucket))
        self._client.meta.events.register("before-parse.s3.ListObjectsV2", _keep_page)

    def list(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        """The descriptions of the objects whose keys begin with `prefix`, in S3's order. Raises FanfoldError."""
        more: dict[str, str] = {}
        while True:
            with aws_errors(self._address):
                answer = self._client.list_objects_v2(Prefix=prefix, EncodingType="url", **self._asked, **more)
            objects, following = _parsed(answer["Page"])
            yield from objects
            if not following:
                return
            more = {"ContinuationToken": following}

    def head(self, key: str) -> Mapping[str, Any]:
        """The description of an object. Raises OSError."""
        with _os_errors(f"{self._address}/{key}"):
            return _meta(key, self._client.head_object(Key=key, **self._asked))

    def get(self, key: str, span: tuple[int, int] | None = None) -> tuple[Mapping[str, Any], Any]:
        """The description of an object, and a call that reads its content, or a span of it.

        Raises OSError, as does the call.
        """
        asked = self._asked | {"Key": key} | ({"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {})
        with _os_errors(f"{self._address}/{key}"):
            answer = self._client.get_object(**asked)

        return _meta(key, answer), lambda: self._content(answer, asked)

    def _content(self, answer: Mapping[str, Any], asked: Mapping[str, Any]) -> bytes:
        with _os_errors(f"{self._address}/{asked['Key']}"):
            try:
                data: bytes = answer["Body"].read()
            except FAILED:  # the connection broke, and botocore does not repeat
                again = self._client.get_object(IfMatch=answer["ETag"], **asked)
                data = again["Body"].read()
            return data


def _parsed(xml: bytes) -> tuple[list[dict[str, Any]], str]:
    """The objects of a page, as obstore describes them, and the next page's token (S3 API Reference, ListObjectsV2)."""
    root = ElementTree.fromstring(xml)
    space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
    plain = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    described = [
        {
            "path": plain(one.findtext(f"{space}Key", "")),
            "size": int(one.findtext(f"{space}Size", "")),
            "e_tag": one.findtext(f"{space}ETag", ""),
            "last_modified": datetime.fromisoformat(one.findtext(f"{space}LastModified", "")),
        }
        for one in root.iterfind(f"{space}Contents")
    ]
    return described, root.findtext(f"{space}NextContinuationToken") or ""


def _keep_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Make botocore pass on the XML of a listing, and not parse it."""
    if response_dict["status_code"] < 300 and b"<ListBucketResult" in response_dict["body"][:1000]:
        customized_response_dict["Page"], response_dict["body"] = response_dict["body"], b""


def _meta(key: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": key,
        "size": int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else answer["ContentLength"],
        "e_tag": answer.get("ETag", ""),
        "last_modified": answer["LastModified"],
    }


def _settings(bucket: str) -> dict[str, Any]:
    """The settings in obstore's variables that boto3 does not read."""
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    is_virtual = _is_set("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")  # obstore's endpoint then names the bucket
    style = "virtual" if is_virtual else "path" if endpoint else "auto"
    unsigned = {"signature_version": UNSIGNED} if _is_set("AWS_SKIP_SIGNATURE") else {}
    endpoint = endpoint.replace(f"//{bucket}.", "//")
    return {"endpoint": endpoint or None, "s3": {"addressing_style": style}, **unsigned}


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in _YES


@contextmanager
def _os_errors(address: str) -> Iterator[None]:
    try:
        yield
    except FAILED as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, ClientError) else 0
        if status == 404:
            raise FileNotFoundError(f"not found: {address}") from error
        raise OSError(f"{address}: {text_of(error)}") from error
