"""How many bytes of message bodies a worker holds. A prefetch counts messages, whatever their size."""

from __future__ import annotations

_MOST_BYTES = 32 * 1024 * 1024


class Held:
    """Says whether there is room for another body, of `limit_bytes` for each process at least.

    Of those over that limit, which are only held to be buried, one at a time is.
    """

    def __init__(self, limit_bytes: int, processes: int) -> None:
        self._limit = limit_bytes
        self._most = max(_MOST_BYTES, limit_bytes * processes)
        self._has_too_large = False
        self.bytes = 0

    def may_take(self, size: int) -> bool:
        """Whether there is room for a body of this size."""
        if size > self._limit:
            return not self._has_too_large
        return self.bytes + size <= self._most

    def take(self, size: int) -> bool:
        """Count a body in, if there is room for it."""
        if not self.may_take(size):
            return False
        if size > self._limit:
            self._has_too_large = True
        else:
            self.bytes += size
        return True

    def free(self, size: int) -> None:
        """Count a body out."""
        if size > self._limit:
            self._has_too_large = False
        else:
            self.bytes -= size
