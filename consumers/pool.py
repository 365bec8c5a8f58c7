"""The pool of child processes: hands deliveries to free children, times them, replaces children that die."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable

from consumers.delivery import Delivery
from consumers.forkserver import Forkserver, ForkserverDied
from consumers.outcome import Ending, Failure, Outcome
from consumers.slots import Slots
from consumers.wire import Order, pack_order, unpack_outcomes

_DEADLINE_CHECK_SECONDS = 0.1
_IDLE_DEATH_PAUSE_SECONDS = 1.0

OnOutcome = Callable[[Delivery, Outcome], None]


class _Child:
    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0
        self.socket: socket.socket | None = None
        self.running: Delivery | None = None
        self.number = 0
        self.began = 0.0
        self.killed_because = ""
        self.unsent = b""
        self.received = bytearray()


class Pool:
    """Runs deliveries in child processes; `on_outcome` is told how each ended."""

    def __init__(self, forkserver: Forkserver, slots: Slots, size: int, on_outcome: OnOutcome) -> None:
        self._forkserver = forkserver
        self._slots = slots
        self._on_outcome = on_outcome
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._children = [_Child(index) for index in range(size)]
        self._free: list[_Child] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(forkserver.fileno(), self._hear_forkserver)
        for child in self._children:
            self._start(child)

    @property
    def running(self) -> list[Delivery]:
        """What is running at this moment."""
        return [child.running for child in self._children if child.running]

    def give(self, delivery: Delivery) -> None:
        """Run a delivery as soon as a child is free."""
        self._waiting.append(delivery)
        self._feed()

    def withdraw_waiting(self) -> list[Delivery]:
        """Take back what no child has got yet."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def stop(self) -> None:
        """Kill what runs and end every child. No outcome is told any more."""
        self._stopped = True
        self._loop.remove_reader(self._forkserver.fileno())
        if self._timer:
            self._timer.cancel()
        for child in self._children:
            self._disconnect(child)
        self._forkserver.stop()

    def _start(self, child: _Child) -> None:
        if self._stopped:
            return
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        child.socket, child.running, child.unsent, child.killed_because = ours, None, b"", ""
        child.received.clear()
        self._slots.write(child.index, 0, 0.0, "")
        self._loop.add_reader(ours.fileno(), self._hear_child, child)
        self._forkserver.fork(child.index, theirs)
        self._free.append(child)
        self._feed()

    def _feed(self) -> None:
        while self._waiting and self._free:
            child = self._free.pop()
            delivery = self._waiting.popleft()
            child.number += 1
            child.running = delivery
            child.began = time.monotonic()
            properties = delivery.properties
            order = Order(
                child.number,
                delivery.queue.name,
                delivery.attempt,
                delivery.id,
                properties.content_type,
                properties.content_encoding,
                delivery.body,
            )
            self._send(child, pack_order(order))
            if self._timer is None:
                self._timer = self._loop.call_later(_DEADLINE_CHECK_SECONDS, self._check_deadlines)

    def _send(self, child: _Child, data: bytes) -> None:
        assert child.socket is not None
        try:
            sent = child.socket.send(data) if not child.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the child has died; the forkserver will say so
        child.unsent += data[sent:]
        if child.unsent:
            self._loop.add_writer(child.socket.fileno(), self._send_rest, child)

    def _send_rest(self, child: _Child) -> None:
        assert child.socket is not None
        with contextlib.suppress(BlockingIOError):
            try:
                child.unsent = child.unsent[child.socket.send(child.unsent) :]
            except (BrokenPipeError, ConnectionResetError):
                child.unsent = b""  # the child has died; the forkserver will say so
        if not child.unsent:
            self._loop.remove_writer(child.socket.fileno())

    def _hear_child(self, child: _Child) -> None:
        if child.socket and not self._receive(child):
            self._loop.remove_reader(child.socket.fileno())  # its end follows from the forkserver

    def _receive(self, child: _Child) -> bool:
        """Take what the child has written; False when nothing more will come."""
        assert child.socket is not None
        try:
            data = child.socket.recv(262_144)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        child.received += data
        try:
            for number, outcome in unpack_outcomes(child.received):
                self._finish(child, number, outcome)
        except ValueError as error:
            child.received.clear()
            self._kill(child, f"it wrote garbage to its parent ({error})")
        return bool(data)

    def _finish(self, child: _Child, number: int, outcome: Outcome) -> None:
        delivery = child.running
        if delivery is None or number != child.number:
            return
        child.running = None
        if not child.killed_because:
            self._free.append(child)
        self._on_outcome(delivery, outcome)
        self._feed()

    def _check_deadlines(self) -> None:
        self._timer = None
        now = time.monotonic()
        for child in self._children:
            if child.running:
                begun = self._slots.read(child.index)
                if begun.number == child.number and begun.deadline <= now and not child.killed_because:
                    self._kill(child, "time limit")
        if any(child.running for child in self._children):
            self._timer = self._loop.call_later(_DEADLINE_CHECK_SECONDS, self._check_deadlines)

    def _kill(self, child: _Child, reason: str) -> None:
        child.killed_because = reason
        if child in self._free:
            self._free.remove(child)
        self._forkserver.kill(child.index)

    def _hear_forkserver(self) -> None:
        try:
            events = self._forkserver.events()
        except ForkserverDied as error:
            self._loop.remove_reader(self._forkserver.fileno())
            self.failed.set_exception(error)
            return
        for event in events:
            child = self._children[event.slot]
            if event.exit_status is None:
                child.pid = event.pid
            else:
                self._bury_child(child, event.exit_status)

    def _bury_child(self, child: _Child, exit_status: int) -> None:
        """What the child reported before it died counts; what it was running has failed; another takes its place."""
        self._take_last_words(child)
        lost = child.running
        begun = self._slots.read(child.index)
        task = begun.task if begun.number == child.number else ""
        seconds = time.monotonic() - child.began
        reason = child.killed_because
        self._disconnect(child)
        if child in self._free:
            self._free.remove(child)
        if lost:
            self._start(child)
            self._on_outcome(lost, _death(task, seconds, reason, exit_status))
        else:  # it died of nothing it was told to run; do not spin if the next one does the same
            self._loop.call_later(_IDLE_DEATH_PAUSE_SECONDS, self._start, child)

    def _take_last_words(self, child: _Child) -> None:
        while child.socket:
            pending, _, _ = select.select([child.socket], [], [], 0)
            if not pending or not self._receive(child):
                return

    def _disconnect(self, child: _Child) -> None:
        if child.socket:
            self._loop.remove_reader(child.socket.fileno())
            self._loop.remove_writer(child.socket.fileno())
            child.socket.close()
            child.socket = None


def _death(task: str, seconds: float, reason: str, exit_status: int) -> Outcome:
    if reason == "time limit":
        text = f"the task overran its time limit and was killed after {seconds:.1f} s"
        return Outcome(
            Ending.OVERRAN_TIME_LIMIT,
            task,
            seconds,
            Failure("TimeLimitExceeded", text, "", f"TimeLimitExceeded@{task}"),
        )
    if exit_status < 0:
        how = f"was killed by signal {-exit_status} ({signal.Signals(-exit_status).name})"
    else:
        how = f"ended with exit status {exit_status}"
    text = f"the process running the task {how}" + (f": {reason}" if reason else "")
    return Outcome(Ending.PROCESS_DIED, task, seconds, Failure("ProcessDied", text, "", f"ProcessDied@{task}"))
