"""The parent's side of one child process: what it holds, what it has begun, and how it ended.

Orders are numbered. Reports name the first number they tell of; the child's slot names the last it began; the
tokens left in its pipe are for those it has not. From these three it is known for each order how far it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection

from consumers.delivery import Delivery
from consumers.forkserver import Forkserver
from consumers.outcome import Ending, Failure, Outcome
from consumers.slots import Begun, Slots
from consumers.wire import OrderFields, pack_orders, unpack_reports
from topology.errors import MessageError
from topology.message import decode

_TIME_LIMIT = "time limit"
BEGIN_SECONDS = 10.0
"""A child that begins nothing of what it was given for so long cannot any more: even a thrashing machine is faster."""
_LONGEST_STEP_SECONDS = 0.5  # longer between two looks, and it was this process that did not run
_NEWBORN_SECONDS = 5.0

Ended = list[tuple[Delivery, Outcome]]


class ChildHandle:
    """One child of the pool. `start` it before anything else, and again after `bury`."""

    def __init__(
        self, index: int, forkserver: Forkserver, slots: Slots, on_readable: Callable[[ChildHandle], None]
    ) -> None:
        self._index = index
        self._forkserver = forkserver
        self._slots = slots
        self._on_readable = on_readable
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._tokens = (-1, -1)
        self._numbers = itertools.count(1)
        self._held: dict[int, Delivery] = {}  # by number, so in the order of running
        self._seen_begun = 0
        self._killed_because = ""
        self._at_end = False
        self._unsent = memoryview(b"")
        self._received = bytearray()
        self._born = 0.0
        self._has_reported = False
        self._looked = self._unbegun_seconds = 0.0

    @property
    def is_newborn(self) -> bool:
        """Whether it was started a moment ago and has not reported anything yet."""
        return not self._has_reported and time.monotonic() - self._born < _NEWBORN_SECONDS

    @property
    def was_killed(self) -> bool:
        """Whether it was killed from here."""
        return bool(self._killed_because)

    @property
    def held(self) -> Collection[Delivery]:
        """The deliveries whose outcome it still owes."""
        return self._held.values()

    def start(self) -> None:
        """Have the process forked."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._tokens = os.pipe()
        os.set_blocking(self._tokens[0], False)
        self._socket, self._at_end, self._unsent, self._killed_because = ours, False, memoryview(b""), ""
        self._received.clear()
        self._born, self._has_reported = time.monotonic(), False
        self._slots.write(self._index, 0, 0.0, math.inf, "")
        self._loop.add_reader(ours.fileno(), self._on_readable, self)
        self._forkserver.fork(self._index, theirs, self._tokens[0])

    def send(self, batch: list[Delivery]) -> None:
        """Hand it a batch; it must be free."""
        orders: list[OrderFields] = []
        for delivery in batch:
            number = next(self._numbers)
            self._held[number] = delivery
            properties = delivery.properties
            orders.append(
                (
                    number,
                    delivery.queue.name,
                    delivery.attempt,
                    delivery.id,
                    properties.content_type,
                    properties.content_encoding,
                    delivery.body,
                )
            )
        self._looked, self._unbegun_seconds = time.monotonic(), 0.0
        os.write(self._tokens[1], b"." * len(orders))
        self._write(pack_orders(orders))

    def receive(self) -> tuple[Ended, bool]:
        """Take in what it has written; returns what ended, and whether it is free again."""
        assert self._socket is not None
        try:
            data = self._socket.recv(262_144)
        except BlockingIOError:
            return [], False
        except ConnectionResetError:
            data = b""
        if not data:  # its end follows from the forkserver
            self._at_end = True
            self._loop.remove_reader(self._socket.fileno())
        self._received += data
        ended: Ended = []
        is_free = False
        try:
            for report in unpack_reports(self._received):
                self._has_reported, self._unbegun_seconds = True, 0.0
                for number, outcome in enumerate(report.outcomes, start=report.first):
                    if number in self._held:
                        ended.append((self._held.pop(number), outcome))
                is_free = report.is_last and not self._killed_because
        except ValueError as error:
            self._received.clear()
            self._kill(f"it wrote garbage to its parent ({error})")
        return ended, is_free

    def has_unread(self) -> bool:
        """Whether it has written what was not received yet."""
        if self._socket is None or self._at_end:
            return False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(0))

    def take_back(self) -> list[Delivery]:
        """Take back what it has not begun, by taking the tokens for it."""
        if self._socket is None:
            return []
        try:
            tokens = len(os.read(self._tokens[0], len(self._held))) if self._held else 0
        except BlockingIOError:
            tokens = 0
        numbers = list(self._held)[len(self._held) - tokens :]
        return [self._held.pop(number) for number in numbers]

    def begun(self) -> Begun:
        """Return what it began last. Read its reports after that, and `finished_before` tells the rest."""
        return self._slots.read(self._index)

    def finished_before(self, begun: Begun) -> Ended:
        """Return what it finished before that and keeps in its next report; failures are reported at once."""
        numbers = [number for number in self._held if number < begun.number]
        return [(delivery := self._held.pop(number), _success(delivery)) for number in numbers]

    def is_stalled(self, begun: Begun) -> bool:
        """Whether it is still at the same order as when this was asked last, with others behind it."""
        still, self._seen_begun = begun.number == self._seen_begun, begun.number
        return still and begun.number in self._held and len(self._held) > 1

    def kill_if_overdue(self, begun: Begun) -> None:
        """Kill it when the attempt it runs is past its time limit."""
        if begun.number in self._held and begun.deadline <= time.monotonic() and not self._killed_because:
            self._kill(_TIME_LIMIT)

    def is_stuck(self, begun: Begun) -> bool:
        """Whether it has begun nothing of what it holds for too long, of the time in which this is asked regularly."""
        now = time.monotonic()
        step, self._looked = min(now - self._looked, _LONGEST_STEP_SECONDS), now
        self._unbegun_seconds = 0.0 if begun.number in self._held else self._unbegun_seconds + step
        return self._unbegun_seconds > BEGIN_SECONDS and not self._killed_because

    def kill_stuck(self) -> list[Delivery]:
        """Take back what it has not begun; kill it, unless it has just taken the token for the rest after all."""
        self._unbegun_seconds = 0.0
        taken_back = self.take_back()
        if not (self._held and taken_back):
            self._kill("it began nothing of what it was given")
        return taken_back

    def bury(self, exit_status: int) -> tuple[Ended, list[Delivery]]:
        """Tell, of what a dead child held, what ended and what it never began.

        It took one token after the other, so all but the last it took one for had succeeded, and that one killed it.
        """
        not_begun = self.take_back()
        begun = self.begun()
        ended: Ended = [(delivery, _success(delivery)) for delivery in self._held.values()]
        if ended:
            number, culprit = self._held.popitem()
            known = begun if number == begun.number else Begun(number, time.monotonic(), math.inf, "")
            ended[-1] = (culprit, _death(known, self._killed_because, exit_status))
        self._held.clear()
        self.disconnect()
        return ended, not_begun

    def disconnect(self) -> None:
        """Close everything that leads to it."""
        if self._socket:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
            for descriptor in self._tokens:
                os.close(descriptor)

    def _write(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            return  # it has died; the forkserver will say so
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._loop.add_writer(self._socket.fileno(), self._write_rest)

    def _write_rest(self) -> None:
        assert self._socket is not None
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
            self._unbegun_seconds = 0.0  # it still reads
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = memoryview(b"")  # it has died; the forkserver will say so
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _kill(self, reason: str) -> None:
        self._killed_because = reason
        self._forkserver.kill(self._index)


def _success(delivery: Delivery) -> Outcome:
    return Outcome(Ending.RETURNED, _task_of(delivery), 0.0)


def _task_of(delivery: Delivery) -> str:
    properties = delivery.properties
    with contextlib.suppress(MessageError):
        body = delivery.body
        return decode(body, properties.content_type, properties.content_encoding, len(body)).task
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return "a real-time signal"


def _death(begun: Begun, reason: str, exit_status: int) -> Outcome:
    seconds = time.monotonic() - begun.started
    task = begun.task
    if reason == _TIME_LIMIT:
        text = f"the task overran its time limit and was killed after {seconds:.1f} s"
        failure = Failure("TimeLimitExceeded", text, "", f"TimeLimitExceeded@{task}")
        return Outcome(Ending.OVERRAN_TIME_LIMIT, task, seconds, failure)
    if exit_status < 0:
        how = f"was killed by signal {-exit_status} ({_signal_name(-exit_status)})"
    else:
        how = f"ended with exit status {exit_status}"
    text = f"the process running the task {how}" + (f": {reason}" if reason else "")
    return Outcome(Ending.PROCESS_DIED, task, seconds, Failure("ProcessDied", text, "", f"ProcessDied@{task}"))
