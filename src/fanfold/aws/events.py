"""What the Lambda is invoked with: what each kind of event asks for, in one place.

    {"Paths": ["images"], ...}                   a request
    {"Run": ID}                                  a question: how a run stands
    API Gateway, a function URL                  a request in the body; the answer takes the form they want
    Records of SQS                               uploads that waited in the deployment's queue
    Records of S3, EventBridge "Object Created"  an upload that nobody keeps for later
    EventBridge "Batch Job State Change"         a job has failed

Every mistake is one sentence, in the words of the request's fields.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from fanfold.errors import FanfoldError, UsageError

EXAMPLE = '{"Paths": ["images"]}'
"""A request that works."""


@dataclass(frozen=True)
class Request:
    """What may be asked of the Lambda. An empty text, or 0, is what is not asked for."""

    Paths: tuple[str, ...]
    """Prefixes of the bucket, objects in it, or text files in it that list addresses."""
    Model: str = ""
    """It must be the deployment's."""
    TaskSize: int = 0
    """Pictures a task at most; by default the deployment's."""
    Table: str = ""
    """The Lance table; by default that of the deployment's model."""
    Ids: str = ""
    """`key` or `stem`; by default as the table has them, and `key` in a new one."""
    Mirror: str = ""
    """The DynamoDB table, `dynamodb://NAME`; by default the Lance table's own."""
    RetryFailed: bool = False
    """Whether pictures that failed before are tried again."""

    @classmethod
    def of(cls, event: Any) -> "Request":
        """The request in an event. Raises UsageError for one that is not understood."""
        if not isinstance(event, Mapping):
            raise UsageError(f"A request is a JSON object, not {_shown(event)}. Ask with {EXAMPLE}.")
        for name, value in {**event, "Paths": event.get("Paths")}.items():
            if wrong := _wrong(name, value):
                raise UsageError(f"{_shown(name)[1:-1]}: {_shown(value)} is not understood: {wrong}")
        return cls(**{**event, "Paths": tuple(event["Paths"])})

    def sources(self, bucket: str) -> list[str]:
        """The addresses of the paths in the bucket. Raises UsageError for one that is elsewhere."""
        return [f"s3://{bucket}/{_in_bucket(path, bucket).strip('/')}" for path in self.Paths]


_FIELDS: dict[str, tuple[type, Callable[[Any], bool], str]] = {
    "Paths": (list, lambda value: bool(value) and all(map(_is_path, value)), f"it takes a list of texts: {EXAMPLE}"),
    "Model": (str, lambda _: True, "it takes a text"),
    "TaskSize": (int, lambda value: value >= 0, "a task has at least one item, and a whole number of them"),
    "Table": (str, lambda _: True, "it takes a text"),
    "Ids": (str, lambda value: value in ("", "key", "stem"), 'it takes "key" or "stem"'),
    "Mirror": (str, lambda value: not value or value.startswith("dynamodb://"), "it takes dynamodb://NAME"),
    "RetryFailed": (bool, lambda _: True, "it takes true or false"),
}
"""What a field's value must be: its type as JSON gives it, a check, and both in words."""


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _wrong(name: str, value: Any) -> str:
    """What is wrong with a field, or nothing."""
    if name not in _FIELDS:
        known = {field.lower(): field for field in _FIELDS}
        near = get_close_matches(name.lower(), known, n=1)
        return f"did you mean {known[near[0]]}?" if near else f"the fields are {', '.join(_FIELDS)}."
    kind, fits, takes = _FIELDS[name]
    return "" if type(value) is kind and fits(value) else f"{takes}."


def _in_bucket(path: str, bucket: str) -> str:
    """A path below the bucket's top; a whole address of the bucket may be given, too."""
    scheme, separator, rest = path.partition("://")
    if separator:
        where, _, path = rest.partition("/")
        if (scheme, where) != ("s3", bucket):
            raise UsageError(
                f"Paths: {_shown(f'{scheme}://{rest}')} is not in the deployment's bucket. Copy it to s3://{bucket}, "
                "or name a text file in the bucket that lists addresses, one a line."
            )
    if {".", ".."} & set(path.split("/")):
        raise UsageError(f"Paths: {_shown(path)} has '.' or '..' in it: name a prefix of the bucket from its top on.")
    return path


def run_of(event: Mapping[str, Any]) -> str:
    """The id of the run that an event asks about; nothing if it asks for one. Raises UsageError for a bad question."""
    id = event.get("Run", "")
    if "Run" in event and not (isinstance(id, str) and id):
        raise UsageError(f'Run: {_shown(id)} is not understood: it takes the "Run" of an answer.')
    if id and len(event) > 1:
        others = ", ".join(sorted(map(str, event.keys() - {"Run"})))
        raise UsageError(
            f'A question about a run is {{"Run": ID}} alone. To begin another run, leave Run out ({others}).'
        )
    return str(id)


def _shown(value: Any) -> str:
    """A value as JSON, not at length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else f"{text[:97]}..."


def in_fields(error: FanfoldError) -> FanfoldError:
    """An error whose advice names fields of a request instead of flags, but for commands that it says to type."""
    advice, command, rest = re.split(r"(\bfanfold [a-z]+ .*|$)", str(error), maxsplit=1, flags=re.DOTALL)
    advice = re.sub(r"--retry-failed\b", '"RetryFailed": true', advice)
    advice = re.sub(r"--([a-z]+(?:-[a-z]+)*) ([^\s,;]*[^\s,;.])", _field, advice)
    kind = UsageError if isinstance(error, UsageError) else type(error)
    return kind(advice + command + rest)


_FIELD_OF = {"table": "Table", "id": "Ids", "model": "Model", "mirror": "Mirror", "task-size": "TaskSize"}


def _field(flag: re.Match[str]) -> str:
    return f'"{_FIELD_OF[flag[1]]}": "{flag[2]}"' if flag[1] in _FIELD_OF else flag[0]


# -- HTTP ---------------------------------------------------------------------------------------------------------


def is_http(event: Mapping[str, Any]) -> bool:
    """Whether an event is a request over HTTP: of a REST API, of an HTTP API, or of a function URL.

    docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    return "httpMethod" in event or "requestContext" in event


def body_of(event: Mapping[str, Any]) -> Any:
    """The JSON in the body of a request over HTTP. Raises UsageError for a body that is none."""
    body = event.get("body") or ""
    try:
        content = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body
        return json.loads(content)
    except (ValueError, TypeError):  # of JSON, of UTF-8, of base64
        raise UsageError(f"The body is not JSON: {_shown(body)}. Send {EXAMPLE}.") from None


def over_http(status: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer in the form that API Gateway and function URLs pass on."""
    headers = {"content-type": "application/json"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(answer), "isBase64Encoded": False}


# -- what other services say --------------------------------------------------------------------------------------


def is_from_queue(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records come from SQS, which sends those again that are named in the answer."""
    return all(record.get("eventSource") == "aws:sqs" and "messageId" in record for record in records)


def tells_of_upload(event: Mapping[str, Any]) -> bool:
    """Whether S3, or EventBridge on its behalf, tells of an upload. Raises UsageError for records of others."""
    if "Records" not in event:
        return bool(event.get("source") == "aws.s3")
    sources = {str(record.get("eventSource") or record.get("EventSource")) for record in records_of(event)}
    if others := sorted(sources - {"aws:s3"}):
        raise UsageError(f"Records of {others[0]} are not understood. Ask with {EXAMPLE}.")
    return True


def records_of(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of an event. Raises UsageError when they are none."""
    records = event["Records"]
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise UsageError(f"Records: {_shown(records)} is not understood: it takes a list of objects.")
    return records


def is_test(content: Any) -> bool:
    """Whether this is what S3 sends when notifications are turned on, before there is any upload."""
    return isinstance(content, Mapping) and content.get("Event") == "s3:TestEvent"


def is_test_message(record: Mapping[str, Any]) -> bool:
    """The same of a message in a queue."""
    try:
        return is_test(json.loads(record.get("body") or "{}"))
    except (ValueError, TypeError):
        return False


def failed_job(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The job of AWS Batch that an event tells of. Raises UsageError when it tells of none."""
    job = event.get("detail")
    if not isinstance(job, Mapping) or not isinstance(job.get("jobName"), str):
        raise UsageError(f"detail: {_shown(job)} is not understood: it takes a job of AWS Batch, with its jobName.")
    return job


def not_for_us(event: Mapping[str, Any]) -> UsageError:
    """The error for what EventBridge sends of others, a schedule for example."""
    kind = event.get("detail-type") or event.get("source")
    return UsageError(
        f"An event of the kind {_shown(kind)} does not say what to embed. Give its rule a constant input: {EXAMPLE}."
    )
