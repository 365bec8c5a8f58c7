"""An HTTP server that answers after a while, as somebody else's would: python -m benchmarks.server MILLISECONDS FILE.

The file is to have its port. Connections stay open. It speaks only as much HTTP as its clients here need.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

_END = b"\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class _Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        *asked, self._begun = (self._begun + data).split(_END)
        for _ in asked:
            self._loop.call_later(self._seconds, self._transport.write, _ANSWER)


async def _serve(seconds: float, file: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(seconds), "127.0.0.1", 0, backlog=2048)
    unfinished = Path(f"{file}.part")
    unfinished.write_text(str(server.sockets[0].getsockname()[1]), encoding="utf-8")
    unfinished.replace(file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]) / 1000, sys.argv[2]))
