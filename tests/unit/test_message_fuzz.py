"""Whatever arrives as a message body: it is a call that can be sent again, or it is unreadable; never anything else."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from leveret.topology.errors import MessageError, MessageTooLarge, UnreadableMessage
from leveret.topology.message import CONTENT_TYPE, Call, TaskMessage, decode
from leveret.topology.names import LONGEST_NAME_BYTES

LIMIT_BYTES = 2000
ANY_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=15,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={"task": ANY_VALUES, "args": ANY_VALUES, "kwargs": ANY_VALUES, "version": ANY_VALUES, "eta": ANY_VALUES},
)
DAMAGE = [b"\\u", b"d800", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0", b"\x1f", b"1e999", b"NaN", b"-Infinity"]
FORM = [b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b"null", b'"task":"a",', b'"version":']
PIECES = st.sampled_from([*DAMAGE, *FORM, b"9" * 4301, b"[" * 1000])
LABELS = st.none() | st.text(max_size=20) | st.binary(max_size=20) | st.sampled_from([CONTENT_TYPE, "utf-8", "gzip"])


def check(body: bytes, content_type: Any = None, content_encoding: Any = None) -> None:
    """See that the body is a call that can be sent and read again, or that it is refused as a message is."""
    try:
        call = decode(body, content_type, content_encoding, LIMIT_BYTES)
    except (UnreadableMessage, MessageTooLarge) as error:
        assert str(error).isprintable()  # noqa: PT017 - that it may be raised is the property
        return
    assert isinstance(call, Call)
    if len(call.task.encode()) <= LONGEST_NAME_BYTES:  # a name that no task can have is a call of an unknown task
        again = TaskMessage.create(*call).body
        assert decode(again, None, None, len(again)) == call


@given(body=st.binary(max_size=300), content_type=LABELS, content_encoding=LABELS)
def test_any_bytes_under_any_label(body: bytes, content_type: Any, content_encoding: Any) -> None:
    """Bytes of no form, labelled in any way, labels that are no text included."""
    check(body, content_type, content_encoding)


@given(pieces=st.lists(PIECES | st.binary(max_size=5), max_size=30))
@example(pieces=[b'{"task":"a","args":[', b"1e999", b"]}"])
@example(pieces=[b'{"task":"a","kwargs":{"b":', b"-1E+400", b"}}"])
def test_pieces_of_json(pieces: list[bytes]) -> None:
    """What JSON is made of, in any order."""
    check(b"".join(pieces))


@given(document=DOCUMENTS | ANY_VALUES, escaped=st.booleans())
@example(document={"task": "\ud800"}, escaped=True)
@example(document={"task": "a", "kwargs": {"\udfff": 1}}, escaped=True)
@example(document={"task": "a", "args": ["\U0001f600", "\\ud800"]}, escaped=True)
@example(document={"task": "a", "args": [math.inf]}, escaped=True)
def test_any_json(document: Any, escaped: bool) -> None:
    """JSON of any shape, NaN, Infinity and halves of characters included, as lenient encoders write it."""
    check(json.dumps(document, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))


@given(
    call=st.builds(Call, st.text(min_size=1, max_size=20), st.lists(ANY_VALUES, max_size=2), st.just({})),
    data=st.data(),
)
def test_a_message_that_was_damaged(call: Call, data: st.DataObject) -> None:
    """A good message with a piece replaced, cut out or put in, anywhere."""
    try:
        body = TaskMessage.create(*call).body
    except MessageError:
        body = b'{"version":1,"task":"a","args":[],"kwargs":{"text":"b"}}'
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 20)))
    check(body[:start] + data.draw(PIECES | st.binary(max_size=10)) + body[end:])


@given(
    task=st.text(max_size=10),
    args=st.lists(ANY_VALUES, max_size=3),
    kwargs=st.dictionaries(st.text(), ANY_VALUES, max_size=3),
)
def test_what_can_be_sent_can_be_read(task: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """A producer refuses a call, or a worker reads the same one."""
    try:
        body = TaskMessage.create(task, args, kwargs).body
    except MessageError:
        return
    assert decode(body, None, None, len(body)) == Call(task, args, kwargs)
