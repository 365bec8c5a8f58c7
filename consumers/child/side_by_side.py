"""A child process that runs many orders at once: `async def` tasks in one event loop, or plain ones in threads.

Each attempt has a context of its own, by which it is known whose a call, a log line or a print is. An order is begun
only with a token, as in a child that runs one after the other; here tokens are taken for a whole batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import socket
import threading
import time
from collections.abc import Callable

from leveret.consumers import output
from leveret.consumers.child import running as attempts
from leveret.consumers.child import telling, traced
from leveret.consumers.child.board import CANCELLED, Board
from leveret.consumers.child.copies import copies
from leveret.consumers.child.execute import read_call, take_tokens
from leveret.consumers.child.in_loop import InLoop
from leveret.consumers.child.in_threads import InThreads
from leveret.consumers.child.logged import Logged
from leveret.consumers.child.outcome import Outcome
from leveret.consumers.child.process import settle_in, start
from leveret.consumers.child.protocol import Lines, Order, pack_lines, pack_shared_report, unpack_shared_orders
from leveret.consumers.child.running import Running, cancelled
from leveret.consumers.child.surroundings import Surroundings
from leveret.consumers.child.watch import Watch
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.kind import Kind
from leveret.topology import traces

_READ_BYTES = 262_144
_MOST_UNREPORTED_CHARACTERS = 65_536  # of results; a report has to stay readable, and the parent goes on meanwhile

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def serve_side_by_side(
    parent: socket.socket,
    tokens: int,
    board: Board,
    index: int,
    message_limit_bytes: int,
    kind: Kind,
    places: int,
    new_loop: LoopFactory,
) -> None:
    """Run orders until the parent closes the connection."""
    settle_in()
    os.set_blocking(tokens, False)
    start()
    copies.is_copy = False  # of the forkserver, it is
    loop = new_loop()
    asyncio.set_event_loop(loop)
    runs = InLoop(loop, places) if kind is Kind.ASYNC else InThreads(loop)
    program = _Program(loop, parent, tokens, board, index, message_limit_bytes, kind, runs)
    telling.tell_on(board, index, lambda _: (one.place, one.number) if (one := attempts.current.get()) else None)
    board.enter(index)
    while not program.has_ended:
        with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised in what a task has started; who awaits it
            loop.run_forever()  # has it as well, and asyncio lets it through to here, too
    traced.flush()


class _Program:
    """Takes orders in, has them run, watches their limits and reports how they ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parent: socket.socket,
        tokens: int,
        board: Board,
        index: int,
        limit_bytes: int,
        kind: Kind,
        runs: InLoop | InThreads,
    ) -> None:
        self._loop = loop
        self._parent = parent
        self._tokens = tokens
        self._board = board
        self._index = index
        self._limit_bytes = limit_bytes
        self._kind = kind
        self._runs = runs
        self._thread = threading.get_ident()
        self._received = bytearray()
        self._running: dict[Running, object] = {}  # with what can be told to end
        self._outcomes: list[tuple[int, Outcome]] = []
        self._unreported_characters = 0
        self._misplaced: list[int] = []
        self._skipped: list[int] = []
        self._report_soon: asyncio.Handle | None = None
        self._sweep_at = 0.0
        self._sweep_then: asyncio.TimerHandle | None = None
        self.has_ended = False
        """Whether the parent has closed the connection."""
        self._watch = Watch(loop, self._look_for_unstarted) if kind is Kind.ASYNC else None
        self._surroundings = Surroundings()
        loop.add_reader(parent.fileno(), self._take_in)

    def _take_in(self) -> None:
        try:
            data = self._parent.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._end()
            return
        self._received += data
        for batch in unpack_shared_orders(self._received):
            if isinstance(batch, tuple):
                self._cancel(batch)
                continue
            count = take_tokens(self._tokens, len(batch))
            for place, order in batch[:count]:
                self._begin(place, order)
            if count < len(batch):
                self._skipped += [order.number for _, order in batch[count:]]
                self._report_later()

    def _end(self) -> None:
        self._loop.remove_reader(self._parent.fileno())
        self.has_ended = True
        self._loop.stop()

    def _begin(self, place: int, order: Order) -> None:
        started = time.monotonic()
        call = read_call(order, self._limit_bytes, started)
        if isinstance(call, Outcome):
            self._tell(order.number, call)
            return
        task, args, kwargs = call
        if task.kind is not self._kind:
            self._misplaced.append(order.number)
            self._report_later()
            return
        running = Running(place, order.number, task, started, order.is_followed)
        self._board.write(self._index, order.number, started, running.deadline, task.name, place)
        context = contextvars.copy_context()
        context.run(attempts.enter, running, attempt.Attempt(order.id, order.attempt, order.queue, task.name))
        if traces.is_on():
            running.span = context.run(traced.begin, order, task.name)
        if running.is_followed:
            running.logged = Logged(functools.partial(self._send_lines, running))
            context.run(output.listen, running.logged)
        self._running[running] = self._runs.begin(running, args, kwargs, context, self._finish)
        if self._watch:
            self._watch.begin()
        earliest = running.deadline if self._runs.has_soft_limits or not running.soft_at else running.soft_at
        if self._sweep_then is None or earliest < self._sweep_at:
            self._sweep_by(earliest)

    def _finish(self, running: Running, outcome: Outcome) -> None:
        if self._running.pop(running, None) is None:
            return
        if running.logged:
            running.logged.close()
        if running.span:
            traced.end(running.span, outcome)
        self._tell(running.number, outcome)
        output.end_lines(running.printed)
        if not self._running:
            if self._sweep_then:
                self._sweep_then.cancel()
                self._sweep_then = None
            if self._watch:
                self._watch.end()
            self._surroundings.put_back(running.task.name)

    def _look_for_unstarted(self) -> None:
        """Finish what another task of this process has cancelled before its first step, for it cannot do so itself."""
        for running, handle in list(self._running.items()):
            if isinstance(handle, asyncio.Task) and handle.done():
                self._finish(running, cancelled(running))

    def _tell(self, number: int, outcome: Outcome) -> None:
        self._outcomes.append((number, outcome))
        if outcome.result is not None:
            self._unreported_characters += len(outcome.result)
            if self._unreported_characters > _MOST_UNREPORTED_CHARACTERS:
                self._report()
                return
        self._report_later()

    def _send_lines(self, running: Running, lines: list[str], dropped: int) -> None:
        """Send what an attempt has logged, from whatever thread it did so in."""
        frame = pack_lines(Lines(running.number, running.task.name, lines, dropped))
        if threading.get_ident() == self._thread:
            self._send(frame)
        else:
            self._loop.call_soon_threadsafe(self._send, frame)

    def _report_later(self) -> None:
        if self._report_soon is None:
            self._report_soon = self._loop.call_soon(self._report)

    def _report(self) -> None:
        """Report what has ended in one turn of the loop."""
        if self._report_soon:
            self._report_soon.cancel()
            self._report_soon = None
        self._unreported_characters = 0
        report = pack_shared_report(self._outcomes, self._skipped, self._misplaced)
        self._outcomes, self._skipped, self._misplaced = [], [], []
        self._send(report)

    def _send(self, frame: bytes) -> None:
        try:
            self._parent.sendall(frame)
        except ConnectionError:  # the parent has left
            self._end()

    def _cancel(self, numbers: tuple[int, ...]) -> None:
        """Tell those to end that somebody has cancelled."""
        for running, handle in list(self._running.items()):
            if running.number in numbers and not running.is_unwanted:
                running.is_unwanted = running.is_cancelled = True
                self._note_cancelled(running)
                self._runs.cancel(handle)

    def _note_cancelled(self, running: Running) -> None:
        self._board.write(self._index, running.number, running.started, CANCELLED, running.task.name, running.place)

    def _sweep_by(self, moment: float) -> None:
        if self._sweep_then:
            self._sweep_then.cancel()
        self._sweep_at = moment
        self._sweep_then = self._loop.call_later(max(0.0, moment - time.monotonic()), self._sweep)

    def _sweep(self) -> None:
        """Tell those to end that have passed a limit, and look again when the next one does."""
        self._sweep_then = None
        now, limits = time.monotonic(), []
        for running, handle in list(self._running.items()):
            if running.soft_at and not self._runs.has_soft_limits:
                if running.soft_at <= now:
                    running.soft_at = None
                    self._runs.end_softly(handle)
                else:
                    limits.append(running.soft_at)
            if running.is_cancelled:
                continue
            if running.deadline <= now:
                running.is_cancelled = True
                self._note_cancelled(running)
                self._runs.end(handle)
            else:
                limits.append(running.deadline)
        if limits:
            self._sweep_by(min(limits))
