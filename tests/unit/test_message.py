"""The task message: what can be sent is read back the same, and what cannot be read is named."""

from __future__ import annotations

import json
import uuid
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology.errors import MessageError, MessageTooLarge, UnreadableMessage
from leveret.topology.message import Call, TaskMessage, check_id, check_name, decode, own_headers
from leveret.topology.names import Route

LIMIT_BYTES = 1024 * 1024
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def read(body: bytes, content_type: str | None = None, content_encoding: str | None = None) -> Call:
    """Decode with a limit that no test reaches."""
    return decode(body, content_type, content_encoding, LIMIT_BYTES)


def nested(depth: int) -> Any:
    """Lists within lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@given(
    task=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    args=st.lists(JSON_VALUES, max_size=3),
    kwargs=st.dictionaries(st.text(), JSON_VALUES, max_size=3),
)
def test_what_is_sent_is_read_back(task: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Any call in JSON's own types comes out as it went in."""

    assert read(TaskMessage.create(task, args, kwargs).body) == Call(task, args, kwargs)


def test_the_body_is_plain_json() -> None:
    """The body is compact UTF-8 with a version, which any language can write."""
    body = TaskMessage.create("words.count", ("é",), {"top": 5}).body

    assert body == '{"version":1,"task":"words.count","args":["é"],"kwargs":{"top":5}}'.encode()


def test_every_message_has_an_id_of_its_own() -> None:
    """An id is made unless one is given, and a given one is kept."""
    first, second = TaskMessage.create("a"), TaskMessage.create("a")

    assert uuid.UUID(first.id).version == uuid.UUID(second.id).version == 7
    assert uuid.UUID(first.id) < uuid.UUID(second.id)
    assert TaskMessage.create("a", id="order-17").id == "order-17"


def test_a_message_keeps_its_route() -> None:
    """It travels beside the body, which is the same for all ways; none is the usual one."""
    plain, routed = TaskMessage.create("a", [1]), TaskMessage.create("a", [1], route=Route.direct("mail"))

    assert (plain.route, routed.route) == (None, Route.direct("mail"))
    assert plain.body == routed.body
    with pytest.raises(FrozenInstanceError):
        routed.route = None  # type: ignore[misc]


@pytest.mark.parametrize("task_id", ["", "two\nlines", "\ud800", "x" * 256, "é" * 128, 5, b"id", uuid.uuid4()])
def test_an_id_that_amqp_cannot_carry_is_refused(task_id: Any) -> None:
    """An id is 1 to 255 bytes of printable text."""
    with pytest.raises(MessageError, match="cannot be a task id"):
        TaskMessage.create("a", id=task_id)


@pytest.mark.parametrize("task_id", ["a", "two words", "é" * 127, "x" * 255])
def test_a_good_id_is_returned(task_id: str) -> None:
    """An id within the limits is returned as it is."""

    assert check_id(task_id) == task_id


@pytest.mark.parametrize("task", ["", "x" * 256, "é" * 128, "\ud800", None, 5, b"words"])
def test_a_bad_task_name_is_refused(task: Any) -> None:
    """A name that is no text, empty, too long or not writable in UTF-8 is refused by the producer."""
    with pytest.raises(MessageError, match="task"):
        TaskMessage.create(task)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        "\ud800",
        object(),
        {(1, 2): 3},
        10**5000,
        nested(100_000),
        CYCLE,
        {1: "a", "1": "b"},
    ],
    ids=["nan", "inf", "-inf", "surrogate", "object", "key", "huge", "deep", "cycle", "twice"],
)
def test_arguments_that_are_not_json_are_refused(value: Any) -> None:
    """What would not arrive, or could not be read, is refused before it is sent, by the task's name."""
    with pytest.raises(MessageError, match=r"argument number 2 of task 'words\.count' cannot be written as JSON"):
        TaskMessage.create("words.count", [1, value])


@pytest.mark.parametrize("args", ["abc", "", b"abc"])
def test_text_is_no_list_of_arguments(args: Any) -> None:
    """A forgotten comma in ("abc",) does not make three arguments of one."""
    with pytest.raises(MessageError, match=r"arguments of task 'a' are a list or a tuple, not b?'"):
        TaskMessage.create("a", args)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"task":"a"}', Call("a", [], {})),
        (b' {"task" : "a"}\r\n', Call("a", [], {})),
        (b'{"task":"a","args":[1],"kwargs":{"b":2}}', Call("a", [1], {"b": 2})),
        (b'{"task":"a","version":1,"priority":"high","id":5,"eta":null}', Call("a", [], {})),
        (b'\xef\xbb\xbf{"task":"a","args":["b"]}', Call("a", ["b"], {})),
        (b'{"task":"a","args":null,"kwargs":null}', Call("a", [], {})),
        (b'{"task":"a","args":[],"kwargs":[]}', Call("a", [], {})),
        (b'{"task":"a","args":[{"n":1},{"n":1}]}', Call("a", [{"n": 1}, {"n": 1}], {})),
        (b'{"task":"\\u00e9"}', Call("é", [], {})),
    ],
)
def test_only_the_task_is_required(body: bytes, expected: Call) -> None:
    """Arguments default to none, spaces and unknown fields are no trouble."""

    assert read(body) == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is not JSON"),
        (b"hello", "the body is not JSON: .* it begins b'hello'"),
        (b'{"task":"a"', "the body is not JSON"),
        (b'{"task":"a"}{"task":"b"}', "the body is not JSON: Extra data"),
        (b"\xef\xbb\xbf" * 2 + b'{"task":"a"}', "the body is not JSON"),
        ('{"task":"a"}'.encode("utf-16"), "the body is UTF-16; send it as UTF-8$"),
        ('{"task":"a"}'.encode("utf-16-be"), "the body is UTF-16; send it as UTF-8$"),
        ('{"task":"a"}'.encode("utf-32"), "the body is UTF-32; send it as UTF-8$"),
        (b'{"task":"\xe9"}', "the body is not UTF-8"),
        (b'{"task":"\xed\xa0\x80"}', "the body is not UTF-8"),
        (b"\x00" * 100, "the body is not JSON: .* it begins b'.{240}'…$"),
        (b'{"task":"a","args":[NaN]}', "NaN is not a JSON number"),
        (b'{"task":"a","args":[-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"task":"a","task":"b"}', "a field stands twice"),
        (b'{"task":"a","kwargs":{"b":1,"b":1}}', "a field stands twice"),
        (b'{"task":"a","args":' + b"[" * 100_000, "nested too deeply"),
        (
            b'{"task":"a","args":[' + b"9" * 5000 + b"]}",
            "a number in the JSON is too long: it has more than 4,300 digits",
        ),
        (b"null", "a JSON null, not an object with a field 'task'"),
        (b"[]", "a JSON array, not an object"),
        (b'"a"', "a JSON string, not an object"),
        (b"true", "a JSON boolean, not an object"),
        (b"1.5", "a JSON number, not an object"),
        (b"{}", "no field 'task'"),
        (b'{"task":""}', "no field 'task'"),
        (b'{"task":null}', "no field 'task'"),
        (b'{"task":["a"]}', "no field 'task'"),
        (b'{"task":"' + b"a" * 256 + b'"}', "task"),
        (b'{"task":"a","args":{}}', "'args' is a JSON object, not an array"),
        (b'{"task":"a","args":false}', "'args' is a JSON boolean, not an array"),
        (b'{"task":"a","kwargs":[0]}', "'kwargs' is a JSON array, not an object"),
        (b'{"task":"a","kwargs":""}', "'kwargs' is a JSON string, not an object"),
        (b'{"task":"a","version":2}', "version 2 is unknown here; this worker reads 1"),
        (b'{"task":"a","version":"1"}', "version '1' is unknown"),
        (b'{"task":"a","version":true}', "version True is unknown"),
        (b'{"task":"a","version":null}', "version None is unknown"),
    ],
    ids=range(35),
)
def test_an_unreadable_body_is_named(body: bytes, reason: str) -> None:
    """Each thing that can be wrong with a body has a sentence of its own."""
    with pytest.raises(UnreadableMessage, match=reason):
        read(body)


def test_a_body_of_byte_order_marks_is_unreadable() -> None:
    """One is read over, however many there are."""
    with pytest.raises(UnreadableMessage, match="the body is not JSON"):
        read(b"\xef\xbb\xbf" * 300_000)


@given(body=st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_does_worse_than_unreadable(body: bytes) -> None:
    """Whatever bytes arrive, they are a call or they are unreadable; nothing else is raised."""
    try:
        outcome: object = read(body)
    except UnreadableMessage as error:
        outcome = error

    assert isinstance(outcome, (Call, UnreadableMessage))


def test_a_body_over_the_limit_is_refused_unread() -> None:
    """The size is checked first and both numbers are told."""
    with pytest.raises(MessageTooLarge, match="the message body is 1,001 bytes, over the limit of 1,000; put large"):
        decode(b"x" * 1001, None, None, 1000)

    assert decode(b'{"task":"a"}'.ljust(1000), None, None, 1000) == Call("a", [], {})


@pytest.mark.parametrize("kind", [None, "", "application/json", "Application/JSON; charset=UTF-8", "application/json;"])
@pytest.mark.parametrize("encoding", [None, "", "utf-8", "UTF-8", "utf8", "identity"])
def test_json_in_utf_8_is_read_however_it_is_labelled(kind: str | None, encoding: str | None) -> None:
    """Clients label the same content in many ways, or not at all."""

    assert read(b'{"task":"a"}', kind, encoding).task == "a"


@pytest.mark.parametrize(
    ("kind", "encoding", "reason"),
    [
        ("text/plain", None, "content type 'text/plain' is not read here; send application/json"),
        ("application/x-python-serialize", None, "content type"),
        ("application/json; charset=latin-1", None, "content type"),
        ("application/jsonlines", None, "content type"),
        (None, "gzip", "content encoding 'gzip' is not read here; send plain UTF-8"),
        (None, "utf-16", "content encoding"),
    ],
)
def test_other_content_is_refused_by_its_label(kind: str | None, encoding: str | None, reason: str) -> None:
    """What says that it is not JSON in UTF-8 is not guessed at."""
    with pytest.raises(UnreadableMessage, match=reason):
        read(b'{"task":"a"}', kind, encoding)


def test_own_headers_leaves_the_brokers_out() -> None:
    """Only what a client set is sent again, names that merely begin alike included."""
    brokers = ["x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count", "x-acquired-count"]
    own = {"trace": "1", "x-mine": 2, "failure-type": "ValueError", "CCTV": 3, "BCC-list": 4, "cc": 5}

    assert own_headers({**dict.fromkeys([*brokers, "CC", "BCC"], 1), **own}) == own
    assert own_headers(None) == {}


@pytest.mark.parametrize("name", ["", "mail", "é" * 127, "x" * 255, "two\nlines"])
def test_a_name_that_fits_is_returned(name: str) -> None:
    """AMQP carries up to 255 bytes of any text."""

    assert check_name(name, "queue") == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 256, "queue 'x{60}'… is longer than the 255 bytes of AMQP"),
        ("é" * 128, "queue 'é{60}'… is longer"),
        ("\ud800", r"queue '\\ud800' is no text"),
        (None, "queue None is no text"),
        (b"mail", "queue b'mail' is no text"),
        (5, "queue 5 is no text"),
    ],
)
def test_a_name_that_amqp_cannot_carry_is_refused(name: Any, reason: str) -> None:
    """It is told by what it should name."""
    with pytest.raises(MessageError, match=f"^{reason}"):
        check_name(name, "queue")
