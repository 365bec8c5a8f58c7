"""What is sent to a child arrives in its order, however slowly the child reads."""

from __future__ import annotations

import asyncio
import contextlib

from leveret.consumers.running.child_pipe import ChildPipe


def test_what_is_sent_while_the_child_does_not_read_comes_in_order() -> None:
    """A short order behind a long one does not overtake its rest."""

    async def play() -> bytes:
        pipe = ChildPipe(lambda: None, lambda: None)
        theirs, sent = pipe.child_socket, b""
        theirs.setblocking(False)
        received = bytearray()
        for letter, size in ((b"a", 4_000_000), (b"b", 10), (b"c", 1_000_000)):
            pipe.send(letter * size)
            sent += letter * size
            with contextlib.suppress(BlockingIOError):  # so that there is room again, before the loop has turned
                received += theirs.recv(10_000_000)
        async with asyncio.timeout(30):
            while len(received) < len(sent):
                received += await asyncio.get_running_loop().sock_recv(theirs, 1_000_000)
        pipe.close()
        theirs.close()
        assert bytes(received) == sent
        return sent

    assert len(asyncio.run(play())) == 5_000_010
