"""The task message: what producers send and workers read."""

from leveret.topology.message.envelope import (
    VERSION,
    Call,
    Follow,
    TaskMessage,
    check_size,
    decode,
    read_json,
    too_large,
)
from leveret.topology.message.ids import new_id
from leveret.topology.message.properties import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    FAILURE_HEADERS,
    PERSISTENT,
    check_id,
    check_name,
    has_forged,
    own_headers,
)

__all__ = [
    "CONTENT_ENCODING",
    "CONTENT_TYPE",
    "FAILURE_HEADERS",
    "PERSISTENT",
    "VERSION",
    "Call",
    "Follow",
    "TaskMessage",
    "check_id",
    "check_name",
    "check_size",
    "decode",
    "has_forged",
    "new_id",
    "own_headers",
    "read_json",
    "too_large",
]
