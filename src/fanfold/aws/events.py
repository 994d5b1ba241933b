"""The events that invoke the Lambda, and what each type asks for.

    {"Paths": ["images"], ...}                   a request
    {"Run": ID}                                  a question: the state of a run
    API Gateway, a function URL                  a request in the body; the answer is an HTTP response
    Records of SQS                               uploads that waited in the deployment's queue
    Records of S3, EventBridge "Object Created"  an upload that cannot wait in a queue
    EventBridge "Batch Job State Change"         a job has failed

Every error is one sentence, with the names of the request's fields.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from fanfold.errors import FanfoldError, UsageError, problem_of
from fanfold.job import Job

EXAMPLE = '{"Paths": ["images"]}'
"""A request that works."""

_PathText = Annotated[str, StringConstraints(pattern=r"\S")]
_PathTexts = Annotated[tuple[_PathText, ...], Field(min_length=1, strict=False)]  # JSON has lists only


class Request(BaseModel):
    """A request to the Lambda. A description has the values of a field; an empty string, or 0, means the default."""

    model_config = ConfigDict(strict=True, frozen=True)

    Paths: _PathTexts = Field(description=f"a list of strings: {EXAMPLE}")
    """Prefixes of the bucket, objects in it, or text files in it that list addresses."""
    TaskSize: int = Field(default=0, ge=0, description="a whole number of items, at least 1")
    """Most items per task; by default the deployment's."""
    Table: str = Field(default="", description="a string")
    """The Lance table; by default the one of the deployment's options."""
    Ids: Literal["", "key", "stem"] = Field(default="", description='"key" or "stem"')
    """What identifies an item; by default as in the table, and `key` in a new one."""
    Mirror: str = Field(default="", pattern="^(dynamodb://.*)?$", description="dynamodb://NAME")
    """The DynamoDB table; by default the Lance table's own."""
    RetryFailed: bool = Field(default=False, description="true or false")
    """Whether to retry items that failed before."""
    options: dict[str, Any] = {}
    """Options of the job. In a request they stand beside the other fields: `batch_size` is `BatchSize`."""

    @classmethod
    def of(cls, event: Any, job: type[Job]) -> "Request":
        """The request in an event. Raises UsageError for one that is not valid."""
        if not isinstance(event, Mapping):
            raise UsageError(f"A request is a JSON object, not {_shown(event)}. Send {EXAMPLE}.")
        options, kinds = {field: option for option, field in fields_of(job).items()}, get_type_hints(job)
        given: dict[str, Any] = {}
        for name, value in event.items():
            try:
                if name not in _OWN and (kind := kinds[options[name]]) and value != "":
                    given[options[name]] = TypeAdapter(kind).validate_python(value, strict=True)
            except KeyError:
                raise _wrong(name, value, _advice(name, [*_OWN, *options])) from None
            except ValidationError as error:
                raise _wrong(name, value, problem_of(error).partition(", not ")[0] + ".") from None
        try:
            return cls(options=given, **{name: value for name, value in event.items() if name in _OWN})
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise _wrong(name, event.get(name), f"it takes {cls.model_fields[name].description}.") from None

    def sources(self, bucket: str) -> list[str]:
        """The addresses of the paths in the bucket. Raises UsageError for a path outside the bucket."""
        return [f"s3://{bucket}/{_in_bucket(path, bucket).strip('/')}" for path in self.Paths]


_OWN = [name for name in Request.model_fields if name != "options"]
FLAGS = {re.sub("(?<!^)([A-Z])", r"_\1", name).lower(): name for name in _OWN} | {"id": "Ids"}
"""The fields of a request by the flags of the command line: `task_size` is TaskSize."""


def fields_of(job: type[Job] | None) -> dict[str, str]:
    """The fields of a request that are a job's options: `batch_size` is BatchSize. By option."""
    names = [field.name for field in fields(job)] if job else []  # type: ignore[arg-type]
    return {name: field for name in names if (field := name.title().replace("_", "")) not in _OWN}


def _wrong(name: str, value: Any, advice: str) -> UsageError:
    return UsageError(f"{_shown(name)[1:-1]}: {_shown(value)} is not valid: {advice}")


def _advice(name: str, known: Sequence[str]) -> str:
    """Advice for a field that does not exist."""
    near = get_close_matches(str(name).lower(), lower := {field.lower(): field for field in known}, n=1)
    return f"did you mean {lower[near[0]]}?" if near else f"the fields are {', '.join(known)}."


def _in_bucket(path: str, bucket: str) -> str:
    """A path below the bucket's top; it may be given as a whole address of the bucket."""
    scheme, separator, rest = path.partition("://")
    if separator:
        where, _, path = rest.partition("/")
        if (scheme, where) != ("s3", bucket):
            raise UsageError(
                f"Paths: {_shown(f'{scheme}://{rest}')} is not in the deployment's bucket. Copy it to s3://{bucket}, "
                "or name a text file in the bucket that lists addresses, one per line."
            )
    if {".", ".."} & set(path.split("/")):
        raise UsageError(
            f"Paths: {_shown(path)} has '.' or '..' in it. Write the whole prefix, from the top of the bucket."
        )
    return path


def run_of(event: Mapping[str, Any]) -> str:
    """The id of the run that an event asks about; empty for other events. Raises UsageError for a bad question."""
    id = event.get("Run", "")
    if "Run" in event and not (isinstance(id, str) and id):
        raise _wrong("Run", id, 'it takes the "Run" of an answer.')
    if id and len(event) > 1:
        others = ", ".join(sorted(map(str, event.keys() - {"Run"})))
        raise UsageError(
            f'A question about a run is {{"Run": ID}} and nothing else. To start another run, leave Run out ({others}).'
        )
    return str(id)


def _shown(value: Any) -> str:
    """A value as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else f"{text[:97]}..."


def in_fields(error: FanfoldError, job: type[Job] | None = None) -> FanfoldError:
    """An error whose advice names fields of a request instead of flags, except in commands to type."""
    known = FLAGS | fields_of(job)

    def field(flag: re.Match[str]) -> str:
        name = known.get(flag[1].replace("-", "_"))
        return f'"{name}": "{flag[2]}"' if name else flag[0]

    advice, command, rest = re.split(r"(\bfanfold [a-z]+ .*|$)", str(error), maxsplit=1, flags=re.DOTALL)
    advice = re.sub(r"--retry-failed\b", '"RetryFailed": true', advice)
    advice = re.sub(r"--([a-z]+(?:-[a-z]+)*) ([^\s,;]*[^\s,;.])", field, advice)
    kind = UsageError if isinstance(error, UsageError) else type(error)
    return kind(advice + command + rest)


# -- HTTP ---------------------------------------------------------------------------------------------------------


def is_http(event: Mapping[str, Any]) -> bool:
    """Whether an event is a request over HTTP: of a REST API, of an HTTP API, or of a function URL.

    docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    return "httpMethod" in event or "requestContext" in event


def body_of(event: Mapping[str, Any]) -> Any:
    """The JSON in the body of a request over HTTP. Raises UsageError for a body that is not JSON."""
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


# -- events of other services -------------------------------------------------------------------------------------


def is_from_queue(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether records come from SQS, which sends the ones named in the answer again."""
    return all(record.get("eventSource") == "aws:sqs" and "messageId" in record for record in records)


def is_upload(event: Mapping[str, Any]) -> bool:
    """Whether an event is an upload, from S3 or EventBridge. Raises UsageError for records of other services."""
    for record in records_of(event) if "Records" in event else []:
        if (source := record.get("eventSource") or record.get("EventSource")) != "aws:s3":
            raise UsageError(f"Records of {source} do not start a run. Send {EXAMPLE}.")
    return "Records" in event or event.get("source") == "aws.s3"


def records_of(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of an event. Raises UsageError when they are not a list of objects."""
    records = event["Records"]
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise _wrong("Records", records, "it takes a list of objects.")
    return records


def is_test(content: Any) -> bool:
    """Whether this is the event that S3 sends when notifications are turned on; also as the body of a message."""
    with suppress(ValueError, TypeError, KeyError):
        content = json.loads(content["body"]) if "messageId" in content else content
    return isinstance(content, Mapping) and content.get("Event") == "s3:TestEvent"


def failed_job(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The job of AWS Batch that an event is about. Raises UsageError when the event names no job."""
    job = event.get("detail")
    if not isinstance(job, Mapping) or not isinstance(job.get("jobName"), str):
        raise _wrong("detail", job, "it takes a job of AWS Batch, with its jobName.")
    return job


def other_event(event: Mapping[str, Any]) -> UsageError:
    """The error for other events of EventBridge, such as a schedule."""
    kind = event.get("detail-type") or event.get("source")
    return UsageError(f"An event of the type {_shown(kind)} has no Paths. Give its rule a constant input: {EXAMPLE}.")
