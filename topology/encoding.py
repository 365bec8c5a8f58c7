"""Text of others that is no UTF-8: which encoding it is in, where its first bytes tell."""

from __future__ import annotations

import json


def wide_encoding(text: bytes) -> str:
    """Return `UTF-16` or `UTF-32` for a text in it, by a byte order mark or the zeros of ASCII's characters, else "".

    Zeros alone are no text: a file system leaves them where the power failed.
    """
    first = text[:4]
    encoding = json.detect_encoding(first)
    return encoding.upper()[:6] if any(first) and not encoding.startswith("utf-8") else ""
