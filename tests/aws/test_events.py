"""What the Lambda understands of an event before it does anything, and the sentence for what it does not."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import StorageError, UsageError
from fanfold.aws.events import Request, body_of, in_fields, is_from_queue, is_http, tells_of_upload
from fanfold.errors import FanfoldError, MissingExtra, RecipeMismatch, SourceMismatch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["Paths", "Model", "TaskSize", "Table", "Ids", "Mirror", "RetryFailed"]) | st.text(max_size=8)


def test_every_field_of_a_request_is_understood() -> None:
    """A request may name all that can be chosen, and need name its paths alone."""
    asked = {"Paths": ["a", "b"], "Model": "m", "TaskSize": 5, "Table": "t", "Ids": "stem", "RetryFailed": True}
    request = Request.of({**asked, "Mirror": "dynamodb://fanfold.t"})
    assert request == Request(("a", "b"), "m", 5, "t", "stem", "dynamodb://fanfold.t", True)
    assert Request.of({"Paths": ["a"]}) == Request(("a",))
    assert Request.of({"Paths": ["a"], "Model": "", "TaskSize": 0, "Ids": "", "Mirror": ""}) == Request(("a",))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (["images"], 'not ["images"]'),
        ("images", 'not "images"'),
        (7, "not 7"),
        (None, "not null"),
        (True, "not true"),
        ({}, 'Paths: null is not understood: it takes a list of texts: {"Paths": ["images"]}.'),
        ({"Paths": "images"}, 'Paths: "images" is not understood: it takes a list of texts'),
        ({"Paths": []}, "Paths: [] is not understood: it takes a list of texts"),
        ({"Paths": ["images", ""]}, 'Paths: ["images", ""] is not understood: it takes a list of texts'),
        ({"Paths": ["images", None]}, 'Paths: ["images", null] is not understood'),
        ({"paths": ["images"]}, "did you mean Paths?"),
        ({"Path": ["images"]}, "did you mean Paths?"),
        ({"Paths": ["a"], "Tabel": "t"}, 'Tabel: "t" is not understood: did you mean Table?'),
        ({"Paths": ["a"], "retry_failed": True}, "did you mean RetryFailed?"),
        ({"Paths": ["a"], "image_batch_limit": 5}, "the fields are Paths, Model, TaskSize, Table, Ids, Mirror, Retry"),
        ({"Paths": ["a"], "TaskSize": -1}, "TaskSize: -1 is not understood: a task has at least one item"),
        ({"Paths": ["a"], "TaskSize": "5"}, 'TaskSize: "5" is not understood: a task has at least one item'),
        ({"Paths": ["a"], "TaskSize": 2.5}, "TaskSize: 2.5 is not understood"),
        ({"Paths": ["a"], "TaskSize": True}, "TaskSize: true is not understood"),
        ({"Paths": ["a"], "Model": 18}, "Model: 18 is not understood: it takes a text."),
        ({"Paths": ["a"], "Table": None}, "Table: null is not understood: it takes a text."),
        ({"Paths": ["a"], "Ids": "name"}, 'Ids: "name" is not understood: it takes "key" or "stem".'),
        ({"Paths": ["a"], "Mirror": "vectors"}, 'Mirror: "vectors" is not understood: it takes dynamodb://NAME.'),
        ({"Paths": ["a"], "RetryFailed": "yes"}, 'RetryFailed: "yes" is not understood: it takes true or false.'),
        ({"Paths": ["a"], "two\nlines": 1}, r"two\nlines: 1 is not understood: the fields are"),
        ({"Paths": ["a"], "Model": {"x": "y" * 1000}}, "..."),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_field(event: Any, said: str) -> None:
    """The sentence shows the value as JSON, not at length, and says what the field takes."""
    with pytest.raises(UsageError) as raised:
        Request.of(event)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 220
    assert "\n" not in str(raised.value)


@given(JSON | st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_the_event_it_is_a_request_or_one_sentence(event: Any) -> None:
    """No JSON makes anything but a request or a UsageError."""
    try:
        said = str(Request.of(event))
    except UsageError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("images", "s3://bucket/images"),
        ("/images/cats/", "s3://bucket/images/cats"),
        ("/", "s3://bucket/"),
        ("s3://bucket/images/1.jpg", "s3://bucket/images/1.jpg"),
        ("s3://bucket", "s3://bucket/"),
        ("a..b/c.", "s3://bucket/a..b/c."),
    ],
)
def test_a_path_is_below_the_buckets_top(path: str, address: str) -> None:
    """It may begin with a slash, or be a whole address of the bucket."""
    assert Request((path,)).sources("bucket") == [address]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://other/images", r'"s3://other/images" is not in the deployment\'s bucket. Copy it to s3://bucket'),
        ("https://host/1.jpg", "or name a text file in the bucket that lists addresses"),
        ("images/../db", r"has '\.' or '\.\.' in it"),
        ("./images", r"name a prefix of the bucket from its top on"),
    ],
)
def test_a_path_elsewhere_is_refused(path: str, said: str) -> None:
    """The sentence says where the pictures must be."""
    with pytest.raises(UsageError, match=said):
        Request((path,)).sources("bucket")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RecipeMismatch("images", "model a", "model b", "images_2"), 'with: "Table": "images_2"'),
        (SourceMismatch("images", "s3://a", "s3://b", "b"), 'with: "Table": "b", or start'),
        (UsageError("Table 'x' has --id stem, not --id key."), 'Table \'x\' has "Ids": "stem", not "Ids": "key".'),
        (UsageError("2 stems are shared. Use --id key.\n  a: x"), '2 stems are shared. Use "Ids": "key".\n  a: x'),
        (UsageError("Use --model m, or: cdk deploy --all -c model=n"), '"Model": "m", or: cdk deploy --all -c model=n'),
        (UsageError("2 failed. Try again: --retry-failed"), '2 failed. Try again: "RetryFailed": true'),
        (UsageError("--mirror is full. Type: fanfold mirror db dynamodb://t --table t"), "dynamodb://t --table t"),
        (StorageError("the bucket is gone"), "the bucket is gone"),
    ],
)
def test_advice_names_fields_and_not_flags(error: FanfoldError, said: str) -> None:
    """What a command line would be told to type is said in fields; commands to be typed stay as they are."""
    told = in_fields(error)
    assert said in str(told)
    assert isinstance(told, UsageError) == isinstance(error, UsageError)
    assert str(in_fields(told)) == str(told)


def test_an_error_of_its_own_form_keeps_its_words() -> None:
    """An error that makes its sentence of facts is put into fields as well."""
    assert "pip install" in str(in_fields(MissingExtra("aws", "AWS")))


def rest(body: Any, **more: Any) -> dict[str, Any]:
    """What a REST API invokes a Lambda with."""
    return {"resource": "/", "httpMethod": "POST", "requestContext": {"stage": "prod"}, "body": body, **more}


def http(body: Any, **more: Any) -> dict[str, Any]:
    """What an HTTP API and a function URL invoke one with."""
    context = {"http": {"method": "POST", "path": "/"}}
    return {"version": "2.0", "routeKey": "$default", "requestContext": context, "body": body, **more}


@pytest.mark.parametrize("form", [rest, http])
def test_the_body_of_a_request_over_http(form: Any) -> None:
    """It is the request as JSON; in base64 where the event says so."""
    asked = {"Paths": ["bilder/größe"]}
    assert is_http(form("{}"))
    assert body_of(form(json.dumps(asked))) == asked
    coded = base64.b64encode(json.dumps(asked, ensure_ascii=False).encode()).decode()
    assert body_of(form(coded, isBase64Encoded=True)) == asked


@pytest.mark.parametrize(
    "event",
    [rest(None), http(""), rest("Paths=images"), http("e30", isBase64Encoded=True), rest("/w==", isBase64Encoded=True)],
    ids=["none", "empty", "a form", "base64 cut short", "not UTF-8"],
)
def test_a_body_that_is_no_json(event: dict[str, Any]) -> None:
    """The sentence shows what to send."""
    with pytest.raises(UsageError, match=r'The body is not JSON: .* Send \{"Paths": \["images"\]\}'):
        body_of(event)


def test_records_are_told_apart_by_where_they_come_from() -> None:
    """Those of SQS can be handed back, those of S3 cannot, and others are refused by name."""
    assert is_from_queue([{"eventSource": "aws:sqs", "messageId": "1"}])
    assert not is_from_queue([{"eventSource": "aws:s3", "s3": {}}])
    assert tells_of_upload({"Records": [{"eventSource": "aws:s3", "s3": {}}]})
    assert tells_of_upload({"source": "aws.s3", "detail-type": "Object Created", "detail": {}})
    with pytest.raises(UsageError, match="Records of aws:sns are not understood"):
        tells_of_upload({"Records": [{"EventSource": "aws:sns", "Sns": {}}]})
    with pytest.raises(UsageError, match="it takes a list of objects"):
        tells_of_upload({"Records": "1"})
