"""S3's objects by S3's own API, which takes every key for what it is.

A listing is parsed here, since botocore takes 140 ms for a page of 1000 keys, and this 12.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from botocore import UNSIGNED

from fanfold.aws.client import FAILED, ClientError, connect, errors_of, said

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})


class S3Objects:
    """The objects of one bucket. Credentials, region and endpoint are those that obstore would use."""

    def __init__(self, bucket: str) -> None:
        self._address = f"s3://{bucket}"
        self._asked: dict[str, Any] = {"Bucket": bucket}
        if _is_set("AWS_REQUEST_PAYER"):
            self._asked["RequestPayer"] = "requester"
        self._client = connect("s3", self._address, **_settings(bucket))
        self._client.meta.events.register("before-parse.s3.ListObjectsV2", _keep_page)

    def list(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        """What a listing says of the objects whose keys begin with `prefix`, in S3's order. Raises FanfoldError."""
        more: dict[str, str] = {}
        while True:
            with errors_of(self._address):
                answer = self._client.list_objects_v2(Prefix=prefix, EncodingType="url", **self._asked, **more)
            page = Page(answer["Page"])
            yield from page.objects()
            if not page.next:
                return
            more = {"ContinuationToken": page.next}

    def head(self, key: str) -> Mapping[str, Any]:
        """What is known of an object without its content. Raises OSError."""
        with _os_errors(f"{self._address}/{key}"):
            return _meta(key, self._client.head_object(Key=key, **self._asked))

    def get(self, key: str) -> tuple[Mapping[str, Any], Any]:
        """An object, and a call that reads its content. Raises OSError, as does the call."""
        with _os_errors(f"{self._address}/{key}"):
            answer = self._client.get_object(Key=key, **self._asked)

        return _meta(key, answer), lambda: self._content(key, answer)

    def _content(self, key: str, answer: Mapping[str, Any]) -> bytes:
        with _os_errors(f"{self._address}/{key}"):
            try:
                data: bytes = answer["Body"].read()
            except FAILED:  # it broke off, which botocore does not mend
                again = self._client.get_object(Key=key, IfMatch=answer["ETag"], **self._asked)
                data = again["Body"].read()
            return data


class Page:
    """One answer to ListObjectsV2, as XML (Amazon S3 API Reference, ListObjectsV2)."""

    def __init__(self, xml: bytes) -> None:
        self._root = ElementTree.fromstring(xml)
        self._space = self._root.tag.rpartition("}")[0] + "}" if "}" in self._root.tag else ""
        self._is_encoded = self._text(self._root, "EncodingType") == "url"
        self.next = self._text(self._root, "NextContinuationToken")

    def objects(self) -> Iterator[dict[str, Any]]:
        """The objects, as obstore describes them."""
        for one in self._root.iterfind(f"{self._space}Contents"):
            key = self._text(one, "Key")
            yield {
                "path": unquote_plus(key) if self._is_encoded else key,
                "size": int(self._text(one, "Size")),
                "e_tag": self._text(one, "ETag"),
                "last_modified": datetime.fromisoformat(self._text(one, "LastModified")),
            }

    def _text(self, element: ElementTree.Element, name: str) -> str:
        return element.findtext(self._space + name) or ""


def _keep_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Have botocore pass the XML of a listing on rather than parse it."""
    if response_dict["status_code"] < 300 and b"<ListBucketResult" in response_dict["body"][:1000]:
        customized_response_dict["Page"], response_dict["body"] = response_dict["body"], b""


def _meta(key: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": key,
        "size": answer["ContentLength"],
        "e_tag": answer.get("ETag", ""),
        "last_modified": answer["LastModified"],
    }


def _settings(bucket: str) -> dict[str, Any]:
    """What obstore's variables come to in boto3's words, where boto3 does not read them."""
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    is_virtual = _is_set("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")  # obstore's endpoint then names the bucket
    style = "virtual" if is_virtual else "path" if endpoint else "auto"
    settings: dict[str, Any] = {"endpoint": endpoint.replace(f"//{bucket}.", "//") or None}
    settings["s3"] = {"addressing_style": style}
    if _is_set("AWS_SKIP_SIGNATURE"):
        settings["signature_version"] = UNSIGNED
    return settings


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
        raise OSError(f"{address}: {said(error)}") from error
