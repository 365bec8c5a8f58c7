"""Bodies that come and go in parts: let pass where there is no room for them, and large ones never held twice.

The frame before a body says how large it is, so that is when its receiver is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika import exceptions as pika_errors
from pika import frame
from pika.channel import ContentFrameAssembler

LARGE_BYTES = 1024 * 1024
"""Smaller bodies are copied as pika does it."""

MayKeep = Callable[[int], bool]
"""Is asked whether a body of so many bytes is to be kept."""


class _LeftOut(bytes):
    """There is only one empty `bytes`; this is another."""


LEFT_OUT = _LeftOut()
"""Stands for a body that was not kept."""


class BodyAssembler(ContentFrameAssembler):  # type: ignore[misc]  # pika has no types
    """Takes the place of pika's own in a channel."""

    def __init__(self, may_keep: MayKeep) -> None:
        super().__init__()
        self._may_keep = may_keep
        self._keeps = True
        self._large: bytearray | None = None
        self._seen_so_far: int

    def process(self, frame_value: Any) -> Any:
        """Take a frame; returns method, header and body when a content is complete."""
        if isinstance(frame_value, frame.Header):
            size = frame_value.body_size
            self._keeps = self._may_keep(size)
            self._large = bytearray(size) if self._keeps and size > LARGE_BYTES else None
        return super().process(frame_value)

    def _handle_body_frame(self, body_frame: Any) -> Any:
        if self._keeps and self._large is None:
            return super()._handle_body_frame(body_frame)
        start, size = self._seen_so_far, self._header_frame.body_size
        self._seen_so_far = end = start + len(body_frame.fragment)
        if end > size:
            raise pika_errors.BodyTooLongError(end, size)
        if self._large is not None:
            self._large[start:end] = body_frame.fragment
        if end < size:
            return None
        content = (self._method_frame, self._header_frame, LEFT_OUT if self._large is None else self._large)
        self._large = None
        self._reset()
        return content
