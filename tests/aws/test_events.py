"""How the Lambda reads an event before it does anything, and its error for an event that it cannot read."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobs
from fanfold import StorageError, UsageError
from fanfold.aws.events import Request, body_of, in_fields, is_from_queue, is_http, is_upload
from fanfold.errors import FanfoldError, MissingExtra, RecipeMismatch, SourceMismatch
from fanfold.images import Images

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["Paths", "Model", "BatchSize", "Provider", "TaskSize", "Table", "Ids", "Mirror", "RetryFailed"]
NAMES = st.sampled_from(FIELDS) | st.text(max_size=8)


def test_every_field_of_a_request_is_understood() -> None:
    """A request may set everything that can be chosen, and only its paths are required."""
    asked = {"Paths": ["a", "b"], "Model": "m", "TaskSize": 5, "Table": "t", "Ids": "stem", "RetryFailed": True}
    request = Request.of({**asked, "Mirror": "dynamodb://fanfold.t", "BatchSize": 4, "Fast": True}, Images)
    own = {name: value for name, value in asked.items() if name != "Model"}
    options = {"model": "m", "batch_size": 4, "fast": True}
    assert request == Request(**own, Mirror="dynamodb://fanfold.t", options=options)
    assert Request.of({"Paths": ["a"]}, Images) == Request(Paths=("a",))
    empty = {"Paths": ["a"], "Model": "", "TaskSize": 0, "Ids": "", "Mirror": ""}
    assert Request.of(empty, Images) == Request(Paths=("a",))


def test_the_options_of_any_job_are_fields_of_a_request() -> None:
    """Field names are the option names in capitalised words, without separators."""
    request = Request.of({"Paths": ["a"], "RecipeName": "other", "OpenError": "no"}, jobs.Scripted)
    assert request.options == {"recipe_name": "other", "open_error": "no"}
    with pytest.raises(UsageError, match="did you mean RecipeName"):
        Request.of({"Paths": ["a"], "recipe_name": "other"}, jobs.Scripted)
    with pytest.raises(UsageError, match=r"the fields are Paths, .*RetryFailed, RecipeName, Pause"):
        Request.of({"Paths": ["a"], "Model": "resnet18"}, jobs.Scripted)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (["images"], 'not ["images"]'),
        ("images", 'not "images"'),
        (7, "not 7"),
        (None, "not null"),
        (True, "not true"),
        ({}, 'Paths: null is not valid: it takes a list of strings: {"Paths": ["images"]}.'),
        ({"Paths": "images"}, 'Paths: "images" is not valid: it takes a list of strings'),
        ({"Paths": []}, "Paths: [] is not valid: it takes a list of strings"),
        ({"Paths": ["images", ""]}, 'Paths: ["images", ""] is not valid: it takes a list of strings'),
        ({"Paths": ["images", None]}, 'Paths: ["images", null] is not valid'),
        ({"paths": ["images"]}, "did you mean Paths?"),
        ({"Path": ["images"]}, "did you mean Paths?"),
        ({"Paths": ["a"], "Tabel": "t"}, 'Tabel: "t" is not valid: did you mean Table?'),
        ({"Paths": ["a"], "retry_failed": True}, "did you mean RetryFailed?"),
        (
            {"Paths": ["a"], "image_batch_limit": 5},
            "the fields are Paths, TaskSize, Table, Ids, Mirror, RetryFailed, ",
        ),
        ({"Paths": ["a"], "TaskSize": -1}, "TaskSize: -1 is not valid: it takes a whole number of items, at least 1"),
        ({"Paths": ["a"], "TaskSize": "5"}, 'TaskSize: "5" is not valid: it takes a whole number of items, at least 1'),
        ({"Paths": ["a"], "TaskSize": 2.5}, "TaskSize: 2.5 is not valid"),
        ({"Paths": ["a"], "TaskSize": True}, "TaskSize: true is not valid"),
        ({"Paths": ["a"], "Model": 18}, "Model: 18 is not valid: it should be a valid string."),
        ({"Paths": ["a"], "BatchSize": "8"}, 'BatchSize: "8" is not valid: it should be a valid integer.'),
        ({"Paths": ["a"], "Truncated": "drop"}, "it should be 'embed' or 'fail'."),
        ({"Paths": ["a"], "Table": None}, "Table: null is not valid: it takes a string."),
        ({"Paths": ["a"], "Ids": "name"}, 'Ids: "name" is not valid: it takes "key" or "stem".'),
        ({"Paths": ["a"], "Mirror": "vectors"}, 'Mirror: "vectors" is not valid: it takes dynamodb://NAME.'),
        ({"Paths": ["a"], "RetryFailed": "yes"}, 'RetryFailed: "yes" is not valid: it takes true or false.'),
        ({"Paths": ["a"], "two\nlines": 1}, r"two\nlines: 1 is not valid: the fields are"),
        ({"Paths": ["a"], "Model": {"x": "y" * 1000}}, "..."),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_field(event: Any, said: str) -> None:
    """The sentence shows the value as short JSON and says what the field takes."""
    with pytest.raises(UsageError) as raised:
        Request.of(event, Images)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 220
    assert "\n" not in str(raised.value)


@given(JSON | st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_the_event_it_is_a_request_or_one_sentence(event: Any) -> None:
    """Any JSON event is either a request or a UsageError."""
    try:
        said = str(Request.of(event, Images))
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
    """A path may begin with a slash, or be a full address in the bucket."""
    assert Request(Paths=(path,)).sources("bucket") == [address]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://other/images", r'"s3://other/images" is not in the deployment\'s bucket. Copy it to s3://bucket'),
        ("https://host/1.jpg", "or name a text file in the bucket that lists addresses"),
        ("images/../db", r"has '\.' or '\.\.' in it"),
        ("./images", r"Write the whole prefix, from the top of the bucket"),
    ],
)
def test_a_path_elsewhere_is_refused(path: str, said: str) -> None:
    """The sentence says where the pictures must be."""
    with pytest.raises(UsageError, match=said):
        Request(Paths=(path,)).sources("bucket")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RecipeMismatch("images", "model a", "model b", "images_2"), 'with: "Table": "images_2"'),
        (SourceMismatch("images", "s3://a", "s3://b", "b"), 'with: "Table": "b". Or make'),
        (UsageError("Table 'x' has --id stem, not --id key."), 'Table \'x\' has "Ids": "stem", not "Ids": "key".'),
        (UsageError("2 stems are shared. Use --id key.\n  a: x"), '2 stems are shared. Use "Ids": "key".\n  a: x'),
        (UsageError("Use --model m, or: cdk deploy --all -c model=n"), '"Model": "m", or: cdk deploy --all -c model=n'),
        (UsageError("2 failed. Try again: --retry-failed"), '2 failed. Try again: "RetryFailed": true'),
        (UsageError("--mirror is full. Type: fanfold mirror db dynamodb://t --table t"), "dynamodb://t --table t"),
        (StorageError("the bucket is gone"), "the bucket is gone"),
    ],
)
def test_advice_names_fields_and_not_flags(error: FanfoldError, said: str) -> None:
    """Advice about flags is changed to fields, and commands to type stay as they are."""
    told = in_fields(error, Images)
    assert said in str(told)
    assert isinstance(told, UsageError) == isinstance(error, UsageError)
    assert str(in_fields(told, Images)) == str(told)


def test_an_error_of_its_own_form_keeps_its_words() -> None:
    """An error that builds its message from facts is changed to fields as well."""
    assert "pip install" in str(in_fields(MissingExtra("aws", "AWS")))


def rest(body: Any, **more: Any) -> dict[str, Any]:
    """The event with which a REST API invokes a Lambda."""
    return {"resource": "/", "httpMethod": "POST", "requestContext": {"stage": "prod"}, "body": body, **more}


def http(body: Any, **more: Any) -> dict[str, Any]:
    """The event with which an HTTP API or a function URL invokes a Lambda."""
    context = {"http": {"method": "POST", "path": "/"}}
    return {"version": "2.0", "routeKey": "$default", "requestContext": context, "body": body, **more}


@pytest.mark.parametrize("form", [rest, http])
def test_the_body_of_a_request_over_http(form: Any) -> None:
    """The body is the request as JSON, or in base64 if the event says so."""
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
    """Records of SQS can be handed back, records of S3 cannot, and others are refused by name."""
    assert is_from_queue([{"eventSource": "aws:sqs", "messageId": "1"}])
    assert not is_from_queue([{"eventSource": "aws:s3", "s3": {}}])
    assert is_upload({"Records": [{"eventSource": "aws:s3", "s3": {}}]})
    assert is_upload({"source": "aws.s3", "detail-type": "Object Created", "detail": {}})
    with pytest.raises(UsageError, match="Records of aws:sns do not start a run"):
        is_upload({"Records": [{"EventSource": "aws:sns", "Sns": {}}]})
    with pytest.raises(UsageError, match="it takes a list of objects"):
        is_upload({"Records": "1"})
