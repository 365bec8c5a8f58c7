"""Messages as no producer of this project makes them, but as any AMQP client can: bodies that are no call."""

from __future__ import annotations

import gzip
import json
import pickle
import zlib
from typing import Any, NamedTuple

LIMIT_BYTES = 1024 * 1024
"""The size limit of a worker that was told none."""


class Malformed(NamedTuple):
    """A message that no worker can run, and what its reason must name."""

    body: bytes
    reason: str
    properties: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it


def call(args: bytes = b"[]", kwargs: bytes = b"{}", more: bytes = b"") -> bytes:
    """A call of a task that is there, with these pieces of JSON in it."""
    return b'{"task":"jobs.fail","args":' + args + b',"kwargs":' + kwargs + more + b"}"


def bomb(megabytes: int) -> bytes:
    """So many zeros in gzip, made of parts: each process that collects the tests makes it."""
    return gzip.compress(bytes(1024 * 1024)) * megabytes


GOOD = call()
_CELERY = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]

NO_JSON: dict[str, Malformed] = {
    "empty": Malformed(b"", "not JSON"),
    "space": Malformed(b" \r\n\t", "not JSON"),
    "words": Malformed(b"hello", "not JSON"),
    "truncated": Malformed(GOOD[:-1], "not JSON"),
    "truncated-in-text": Malformed(b'{"task":"jobs.fa', "Unterminated string"),
    "garbage-behind": Malformed(GOOD + b"x", "Extra data"),
    "two-documents": Malformed(GOOD + b"\n" + GOOD, "Extra data"),
    "trailing-comma": Malformed(b'{"task":"jobs.fail",}', "not JSON"),
    "single-quotes": Malformed(b"{'task':'jobs.fail'}", "not JSON"),
    "comment": Malformed(GOOD + b"// why", "Extra data"),
    "bom-twice": Malformed(b"\xef\xbb\xbf" * 2 + GOOD, r"begins b'\xef\xbb\xbf"),
    "utf-16": Malformed(GOOD.decode().encode("utf-16"), "is UTF-16; send it as UTF-8"),
    "utf-16-without-bom": Malformed(GOOD.decode().encode("utf-16-be"), "is UTF-16; send it as UTF-8"),
    "utf-32": Malformed(GOOD.decode().encode("utf-32"), "is UTF-32; send it as UTF-8"),
    "latin-1": Malformed('{"task":"jobs.f\xe4il"}'.encode("latin-1"), "not UTF-8"),
    "overlong-utf-8": Malformed(call(b'["\xc0\xaf"]'), "not UTF-8"),
    "surrogate-bytes": Malformed(call(b'["\xed\xa0\x80"]'), "not UTF-8"),
    "nul-bytes": Malformed(bytes(1000), "not JSON"),
    "nul-in-text": Malformed(call(b'["a\0b"]'), "Invalid control character"),
    "line-end-in-text": Malformed(call(b'["a\nb"]'), "Invalid control character"),
    "pickle": Malformed(pickle.dumps({"task": "jobs.fail"}), "not UTF-8"),
    "old-pickle": Malformed(pickle.dumps({"task": "jobs.fail"}, protocol=0), "not JSON"),
    "yaml": Malformed(b"task: jobs.fail\nargs: []\n", "not JSON"),
    "yaml-object": Malformed(b'!!python/object/apply:os.system ["true"]', "not JSON"),
    "msgpack": Malformed(b"\x81\xa4task\xa9jobs.fail", "not UTF-8"),
    "xml": Malformed(b"<task>jobs.fail</task>", "not JSON"),
    "gzip-unlabelled": Malformed(gzip.compress(GOOD), "not UTF-8"),
}
NO_VALUE: dict[str, Malformed] = {
    "nan": Malformed(call(b"[NaN]"), "NaN is not a JSON number"),
    "infinity": Malformed(call(b"[Infinity]"), "Infinity is not a JSON number"),
    "minus-infinity": Malformed(call(b"[-Infinity]"), "-Infinity is not a JSON number"),
    "overflow": Malformed(call(b"[1e999]"), "the number 1e999 is too large"),
    "minus-overflow": Malformed(call(b"[[-1e999999]]"), "the number -1e999999 is too large"),
    "hex": Malformed(call(b"[0x10]"), "not JSON"),
    "leading-zero": Malformed(call(b"[007]"), "not JSON"),
    "digits-5000": Malformed(call(b"[" + b"9" * 5000 + b"]"), "number in the JSON is too long"),
    "digits-900000": Malformed(call(b"[" + b"9" * 900_000 + b"]"), "number in the JSON is too long"),
    "digits-behind-the-point": Malformed(call(b"[0." + b"1" * 900_000 + b"]"), "number in the JSON is too long"),
    "surrogate-in-args": Malformed(call(rb'["\ud800"]'), "half a character"),
    "surrogate-in-a-key": Malformed(call(b"[]", rb'{"a\uDFFF":1}'), "half a character"),
    "surrogate-in-task": Malformed(rb'{"task":"jobs.\udc00"}', "half a character"),
    "surrogates-swapped": Malformed(call(rb'["\ude00\ud83d"]'), "half a character"),
    "task-twice": Malformed(b'{"task":"jobs.fail","task":"jobs.exit"}', "stands twice in one object: 'task'"),
    "keyword-twice": Malformed(call(b"[]", b'{"text":1,"text":2}'), "stands twice in one object: 'text'"),
    "key-twice-deep-down": Malformed(call(b'[[{"a":{"b":1,"b":1}}]]'), "stands twice in one object: 'b'"),
    "key-twice-by-escape": Malformed(call(b"[]", rb'{"text":1,"te\u0078t":2}'), "stands twice"),
}
TOO_MUCH: dict[str, Malformed] = {
    "arrays-250": Malformed(call(b"[" * 250 + b"]" * 250), "nested too deeply"),
    "arrays-100000": Malformed(call(b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
    "arrays-1000000-open": Malformed(b"[" * 1_000_000, "nested too deeply"),
    "objects-100000": Malformed(call(b"[]", b'{"":' * 100_000 + b"1" + b"}" * 100_000), "nested too deeply"),
    "objects-260000-open": Malformed(b'{"":' * 260_000, "nested too deeply"),
    "version-nested": Malformed(b'{"task":"a","version":' + b"[" * 950 + b"]" * 950 + b"}", "nested too deeply"),
    "one-byte-over": Malformed(GOOD.ljust(LIMIT_BYTES + 1), "1,048,577 bytes, over the limit of 1,048,576"),
    "long-text-over": Malformed(call(b'["' + b"x" * 2_000_000 + b'"]'), "over the limit"),
    "elements-1000000": Malformed(call(b"[" + b"0," * 999_999 + b"0]"), "over the limit"),
    "elements-500000": Malformed(call(b"[" + b"0," * 499_999 + b"0]"), "too many positional"),
    "empty-arrays-300000": Malformed(call(b"[" + b"[]," * 299_999 + b"[]]"), "too many positional"),
    "keys-80000": Malformed(
        call(b"[]", b"{" + b",".join(b'"k%d":0' % number for number in range(80_000)) + b"}"),
        "unexpected argument",
    ),
    "escaped-quotes": Malformed(b'"' + b'\\"' * 500_000, "Unterminated string"),
}
NO_CALL: dict[str, Malformed] = {
    "array": Malformed(b"[1,2]", "a JSON array, not an object"),
    "null": Malformed(b"null", "a JSON null, not an object"),
    "string": Malformed(b'"jobs.fail"', "a JSON string, not an object"),
    "number": Malformed(b"1.5", "a JSON number, not an object"),
    "boolean": Malformed(b"true", "a JSON boolean, not an object"),
    "celery-protocol-2": Malformed(
        json.dumps(_CELERY).encode(),
        "an array of Celery's protocol 2, which names its task in a header; see docs/coming-from-celery.md",
        {"headers": {"lang": "py", "task": "jobs.fail", "id": "x", "retries": 0, "argsrepr": "()"}},
    ),
    "celery-eta": Malformed(
        call(more=b',"id":"x","retries":0,"eta":"2099-01-01T00:00:00+00:00","expires":null'),
        "field 'eta' of a Celery message, which is not followed here; see docs/coming-from-celery.md",
    ),
    "celery-expires": Malformed(call(more=b',"expires":"2001-01-01T00:00:00"'), "field 'expires' of a Celery message"),
    "celery-callbacks": Malformed(call(more=b',"callbacks":[{"task":"a"}]'), "field 'callbacks' of a Celery message"),
    "arg": Malformed(b'{"task":"jobs.fail","arg":["x"]}', "a field 'arg', which nobody reads; did you mean 'args'?"),
    "Kwargs": Malformed(b'{"task":"jobs.fail","Kwargs":{"text":"x"}}', "did you mean 'kwargs'?"),
    "no-task": Malformed(b'{"kwargs":{}}', "no field 'task'"),
    "task-is-empty": Malformed(b'{"task":""}', "no field 'task'"),
    "task-is-null": Malformed(b'{"task":null}', "no field 'task'"),
    "task-is-a-number": Malformed(b'{"task":5}', "no field 'task'"),
    "task-is-an-array": Malformed(b'{"task":["jobs.fail"]}', "no field 'task'"),
    "task-is-an-object": Malformed(b'{"task":{"name":"jobs.fail"}}', "no field 'task'"),
    "task-of-256": Malformed(b'{"task":"' + b"a" * 256 + b'"}', "256 characters, over 255"),
    "args-object": Malformed(call(b"{}"), "'args' is a JSON object"),
    "args-string": Malformed(call(b'"ab"'), "'args' is a JSON string"),
    "args-boolean": Malformed(call(b"false"), "'args' is a JSON boolean"),
    "kwargs-array": Malformed(call(b"[]", b"[0]"), "'kwargs' is a JSON array"),
    "kwargs-pairs": Malformed(call(b"[]", b'[["text","x"]]'), "'kwargs' is a JSON array"),
    "version-2": Malformed(call(more=b',"version":2'), "envelope version 2 is unknown"),
    "version-true": Malformed(call(more=b',"version":true'), "envelope version True is unknown"),
    "version-text": Malformed(call(more=b',"version":"1"'), "envelope version '1' is unknown"),
    "version-null": Malformed(call(more=b',"version":null'), "envelope version None is unknown"),
    "version-huge": Malformed(call(more=b',"version":1' + b"0" * 400), "envelope version 1000"),
    "version-object": Malformed(call(more=b',"version":{"a":1}'), "envelope version (a JSON object) is unknown"),
    "misfit": Malformed(b'{"task":"jobs.write","kwargs":{"pth":1}}', "missing a required argument"),
    "too-many": Malformed(call(b"[1,2,3]"), "too many positional"),
    "same-argument-twice": Malformed(call(b'["x"]', b'{"text":"y"}'), "multiple values for argument 'text'"),
    "keyword-self": Malformed(call(b"[]", b'{"self":1}'), "unexpected argument 'self'"),
    "keyword-cls": Malformed(call(b"[]", b'{"cls":1,"args":2,"kwargs":3}'), "unexpected argument"),
    "keyword-no-identifier": Malformed(call(b"[]", b'{"":1,"a b":2,"1":3}'), "unexpected argument"),
    "keyword-dunder": Malformed(call(b"[]", b'{"__class__":"os.system"}'), "unexpected argument"),
    "keyword-with-escapes": Malformed(call(b"[]", rb'{"\u001b[2J\n":1}'), "unexpected argument"),
}
LABELLED: dict[str, Malformed] = {
    "labelled-pickle": Malformed(GOOD, "content type", {"content_type": "application/x-python-serialize"}),
    "labelled-text": Malformed(GOOD, "content type 'text/plain'", {"content_type": "text/plain"}),
    "labelled-yaml": Malformed(GOOD, "content type", {"content_type": "application/x-yaml"}),
    "labelled-latin-1": Malformed(GOOD, "content type", {"content_type": "application/json; charset=latin-1"}),
    "labelled-bytes": Malformed(GOOD, r"labelled b'\xff\xfe'", {"content_type": b"\xff\xfe"}),
    "labelled-bytes-and-encoded": Malformed(
        GOOD, r"labelled b'\xff\xfe'", {"content_type": b"\xff\xfe", "content_encoding": "utf-8"}
    ),
    "encoding-bytes-and-labelled": Malformed(
        GOOD, r"b'\xff'", {"content_type": "application/json", "content_encoding": b"\xff"}
    ),
    "encoding-bytes": Malformed(GOOD, r"b'\xff'", {"content_encoding": b"\xff"}),
    "encoding-binary": Malformed(GOOD, "content encoding 'binary'", {"content_encoding": "binary"}),
    "encoding-of-escapes": Malformed(GOOD, r"content encoding '\x1b[2J'", {"content_encoding": "\x1b[2J"}),
    "gzip": Malformed(gzip.compress(GOOD), "content encoding 'gzip'", {"content_encoding": "gzip"}),
    "deflate": Malformed(zlib.compress(GOOD), "content encoding 'deflate'", {"content_encoding": "deflate"}),
    "gzip-bomb": Malformed(bomb(100), "content encoding 'gzip'", {"content_encoding": "gzip"}),
    "unlabelled-bomb": Malformed(bomb(50), "not UTF-8"),
}
UNREADABLE = {**NO_JSON, **NO_VALUE, **TOO_MUCH, **NO_CALL, **LABELLED}
"""By name: what is buried at once, because no worker will ever run it."""

UNKNOWN_TASKS = {
    "import": "__import__('os').system('true')",
    "module-path": "os.system",
    "module": "tests.broker.jobs",
    "module-and-task": "tests.broker.jobs.write",
    "method": "jobs.write.__call__",
    "path": "../../jobs.write",
    "other-case": "JOBS.write",
    "space": " jobs.write",
    "nul": "jobs.write\0",
    "not-ascii": "jobs.ẅrite🐇",
    "escapes": "jobs.\x1b]0;title\x07\r\nwrite",
    "longest": "a" * 255,
}
"""By name: names that no task has. Another worker may know them, so all attempts are used up."""
