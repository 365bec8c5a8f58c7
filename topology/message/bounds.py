"""What a message body may hold besides its size: how deep it is nested and how long its numbers are.

Both are looked for in the bytes, before anything is parsed, and in time that grows with the size alone: Python's
JSON parser goes as deep as its caller's stack lets it, and turns digits into a number in quadratic time.
"""

from __future__ import annotations

from itertools import accumulate

MOST_LEVELS = 200
"""How deep objects and arrays may be nested, the message itself included."""
LONGEST_NUMBER_DIGITS = 4300
"""How many digits may follow each other in a number."""
_DIGITS = b"0123456789"
_OPEN, _CLOSE = b"[{", b"]}"
_STEPS = bytes.maketrans(_OPEN + _CLOSE, b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(_OPEN + _CLOSE))


def excess(body: bytes) -> str:
    """Say which limit a JSON text breaks; empty when it keeps both, or is no JSON."""
    if len(body) <= MOST_LEVELS:
        return ""
    may_be_deep = body.count(b"[") + body.count(b"{") > MOST_LEVELS
    if not (may_be_deep or _has_long_number(body)):
        return ""
    bare = _without_strings(body)
    if may_be_deep and _depth(bare) > MOST_LEVELS:
        return f"the JSON is nested too deeply: it has more than {MOST_LEVELS} levels"
    if _has_long_number(bare):
        return f"a number in the JSON is too long: it has more than {LONGEST_NUMBER_DIGITS:,} digits"
    return ""


def _without_strings(body: bytes) -> bytes:
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b" ".join(unescaped.split(b'"')[::2])


def _depth(bare: bytes) -> int:
    steps = memoryview(bare.translate(_STEPS, _NO_BRACKETS)).cast("b")
    return max(accumulate(steps), default=0)


def _has_long_number(text: bytes) -> bool:
    """Look at every so many bytes: a run of digits longer than that holds one of the places looked at."""
    for place in range(LONGEST_NUMBER_DIGITS, len(text), LONGEST_NUMBER_DIGITS + 1):
        before = text[place - LONGEST_NUMBER_DIGITS : place]
        after = text[place : place + LONGEST_NUMBER_DIGITS + 1]
        digits = len(before) - len(before.rstrip(_DIGITS)) + len(after) - len(after.lstrip(_DIGITS))
        if digits > LONGEST_NUMBER_DIGITS and after[:1].isdigit():
            return True
    return False
