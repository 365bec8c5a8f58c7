"""The scheduler: waits for the lease, then submits each message when it is time; any number of them side by side.

Its story: connect, wait until the broker gives it the state, and turn: publish what is due, all at once; when that is
confirmed put the next state there; wait for the next. When the connection is lost: connect again, and wait again. When
told to stop: leave, and another one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from leveret.producers.batch import as_outgoing
from leveret.producers.not_routed import MissingQueues, advice
from leveret.producers.scheduling.book import Book
from leveret.producers.scheduling.clock import Clock
from leveret.producers.scheduling.definition import Schedule
from leveret.producers.scheduling.lease import Lease
from leveret.producers.scheduling.looking import look_async
from leveret.topology import events, names
from leveret.topology.errors import LeveretError, NotRouted
from leveret.topology.events import Kind
from leveret.topology.link import daemon_thread
from leveret.topology.link.keeping import first_of, keep_working
from leveret.topology.link.outbox import Outgoing
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.names import Route
from leveret.topology.schedules import Done, State, fire_id, fired_key, write_fired
from leveret.topology.settings import Settings, mask

Say = Callable[..., None]
"""Takes a level of logging, a text, and fields."""
_SWAP_MILLISECONDS = 120_000
"""So often the state is put there anew: a broker takes back what is not acknowledged for long."""
_LOOK_SECONDS = 1.0
"""So often the settings file is looked at, and the clock."""
_AT_ONCE = 1_000
_LEAVE_SECONDS = 5.0
_AHEAD_MILLISECONDS = 3_600_000
_RETRY_MILLISECONDS, _LONGEST_RETRY_MILLISECONDS = 2_000, 60_000


class _Fire(NamedTuple):
    schedule: Schedule
    planned: int
    until: int
    """Up to where the schedule is done with when this is confirmed."""
    outgoing: Outgoing


class Scheduler:
    """Runs until it is told to stop."""

    def __init__(self, settings: Settings, book: Book, say: Say) -> None:
        self._settings = settings
        self._book = book
        self._say = say
        self._clock = Clock(lambda text: say(logging.WARNING, text))
        self._missing = MissingQueues(settings)
        self._next: dict[str, int] = {}
        """When each schedule is due next."""
        self._failed: dict[str, tuple[int, str]] = {}
        """How often in a row a fire could not be published, and what was said of it."""
        self._memory = State()
        """What this process knows, should the broker's state be lost."""
        self._name = host_and_pid()
        self._fired = 0

    async def run(self, stopping: Iterable[signal.Signals]) -> int:
        """Schedule; returns the exit status. Raises what the first connection raises; a lost broker is waited for."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in stopping:
            loop.add_signal_handler(number, stop.set)
        stopped = loop.create_task(stop.wait())
        try:
            await keep_working(
                stopped,
                lambda: Lease(self._settings, lambda text: self._say(logging.INFO, text)),
                lambda lease: self._work(lease, stopped),
                lambda text: self._say(logging.WARNING, text),
            )
        finally:
            stopped.cancel()
        self._say(logging.INFO, "stopped", fired=self._fired)
        return 0

    async def _work(self, lease: Lease, stopped: asyncio.Task[Any]) -> None:
        await self._wait(lease, stopped)
        if lease.held.done():
            await self._hold_until_lost(lease, stopped)

    async def _wait(self, lease: Lease, stopped: asyncio.Task[Any]) -> None:
        await first_of(stopped, lease.lost, lease.held, seconds=_LOOK_SECONDS)
        if not (stopped.done() or lease.lost.done() or lease.held.done()):
            self._say(logging.INFO, "another scheduler fires; this one waits for it to end", scheduler=self._name)
            await self._compare()
            await first_of(stopped, lease.lost, lease.held)

    async def _compare(self) -> None:
        """Say which of these schedules the one that fires does not have, for nobody fires those."""
        try:
            state = await look_async(self._settings)
        except LeveretError:  # the lease tells what is wrong with the broker
            return
        schedules = self._book.schedules.values()
        other = [
            one.name
            for one in schedules
            if state and (one.name not in state.done or state.done[one.name].times != one.fingerprint)
        ]
        if state and other:
            self._say(
                logging.WARNING,
                f"the scheduler that fires, {state.by}, does not have {', '.join(other[:5])}"
                f"{' and others' if len(other) > 5 else ''} as this one has; all schedulers of a virtual host need the "
                "same schedules: give them the same file and modules, or another application its own virtual host",
            )

    async def _hold_until_lost(self, lease: Lease, stopped: asyncio.Task[Any]) -> None:
        holding = asyncio.ensure_future(self._hold(lease, stopped))
        try:
            await first_of(stopped, holding)
            await first_of(holding, seconds=_LEAVE_SECONDS)  # what is on its way may be confirmed still
            if holding.done():
                holding.result()
        except LeveretError as error:  # what could not be confirmed is another's to fire
            lease.give_up(error)
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    async def _hold(self, lease: Lease, stopped: asyncio.Task[Any]) -> None:
        """Fire what is due, again and again, while the lease is held."""
        await lease.collect()
        lease.state.merge(State(self._memory.done))
        self._memory = lease.state
        self._book.look()
        self._begin(lease.state)
        self._say(logging.INFO, "scheduling", schedules=len(self._book.schedules), scheduler=self._name,
                  broker=mask(self._settings.amqp_url))  # fmt: skip
        swap_at = 0
        while not stopped.done() and not lease.lost.done():
            if self._book.look() or lease.changed.is_set():
                self._begin(lease.state)
                swap_at = 0
            now = self._clock.now()
            fires, has_changed = self._due(lease.state, now)
            for start in range(0, len(fires), _AT_ONCE):
                await self._publish(lease, fires[start : start + _AT_ONCE])
                has_changed = True
            if has_changed or now >= swap_at:
                lease.state.at, lease.state.by = now, self._name
                lease.state.forget(self._book.schedules, now)
                await lease.swap()
                swap_at = now + _SWAP_MILLISECONDS
            if not lease.changed.is_set():
                await self._sleep(lease, stopped)

    async def _sleep(self, lease: Lease, stopped: asyncio.Task[Any]) -> None:
        due = min(self._next.values(), default=None)
        seconds = _LOOK_SECONDS if due is None else min(_LOOK_SECONDS, (due - self._clock.now()) / 1000)
        if seconds > 0:
            changed = asyncio.ensure_future(lease.changed.wait())
            await first_of(stopped, lease.lost, changed, seconds=seconds)
            changed.cancel()

    def _begin(self, state: State) -> None:
        """Find out when each schedule is due next. One that is new, or has other times now, begins at this moment."""
        now = self._clock.now()
        self._next.clear()
        self._failed.clear()
        for name, schedule in self._book.schedules.items():
            done = state.reached(name, now)
            if done is None:
                done = Done(schedule.fingerprint, now)
            elif done.times != schedule.fingerprint:
                done = done._replace(times=schedule.fingerprint, until=now)
            elif done.until > now + _AHEAD_MILLISECONDS:
                self._say(
                    logging.WARNING,
                    f"schedule {name} was fired for times up to {(done.until - now) / 3_600_000:.1f} h ahead of this "
                    "machine's clock, by one whose clock was wrong; it goes on from now",
                )
                done = done._replace(until=now)
            state.done[name] = done
            self._plan(schedule, done.until)

    def _plan(self, schedule: Schedule, until: int) -> None:
        if (due := schedule.next_after(until)) is None:
            self._next.pop(schedule.name, None)
        else:
            self._next[schedule.name] = due

    def _due(self, state: State, now: int) -> tuple[list[_Fire], bool]:
        """Return what is to be fired now, and whether the state has changed without that."""
        fires: list[_Fire] = []
        has_changed = False
        for name in [name for name, at in self._next.items() if at <= now]:
            schedule, done = self._book.schedules[name], state.reached(name, now)
            assert done is not None
            due = schedule.due(done.until, now)
            if state.paused(name):
                due = due._replace(planned=[], until=now)
            elif due.missed:
                self._say_missed(schedule, len(due.planned), due.left_out, due.missed)
            if not due.planned:
                state.done[name] = done._replace(until=due.until)
                has_changed = True
            last = len(due.planned) - 1
            for number, planned in enumerate(due.planned):
                until = due.until if number == last else planned
                fires.append(_Fire(schedule, planned, until, _message(schedule, planned, now)))
            self._plan(schedule, due.until)
        return fires, has_changed

    def _say_missed(self, schedule: Schedule, fires: int, left_out: int, missed: int) -> None:
        made_up = f"; {fires} follow now" if fires else ""
        left = f"; at least {left_out} are left out" if left_out else ""
        self._say(
            logging.WARNING,
            f"at least {missed} fires of schedule {schedule.name} were missed: more than a minute late (missed = "
            f"{schedule.missed}){made_up}{left}",
        )

    async def _publish(self, lease: Lease, fires: Sequence[_Fire]) -> None:
        """Publish fires; those that were confirmed are done with, the others come again."""
        outcomes = await lease.publish([fire.outgoing for fire in fires])
        at = self._clock.now()
        refused: dict[str, tuple[_Fire, LeveretError]] = {}
        for fire, outcome in zip(fires, outcomes, strict=True):
            name = fire.schedule.name
            if name in refused:
                continue  # it comes again, behind the one before it
            if outcome:
                refused[name] = fire, outcome
                continue
            lease.state.done[name] = Done(fire.schedule.fingerprint, fire.until, fire.planned, at)
            self._fired += 1
            self._failed.pop(name, None)
            self._tell(lease, fire, at)
        for fire, error in refused.values():
            await self._on_refused(fire, error, lease.state.done[fire.schedule.name].until)

    async def _on_refused(self, fire: _Fire, error: LeveretError, until: int) -> None:
        """Have a fire come again: at once when its queue could be declared, else after a pause."""
        name, message = fire.schedule.name, fire.schedule.message
        self._plan(fire.schedule, until)
        if isinstance(error, NotRouted):
            with contextlib.suppress(LeveretError):  # then it is said that it is not routed
                if await daemon_thread.start(self._missing.declare, fire.outgoing.route):
                    return
        count, said = self._failed.get(name, (0, ""))
        pause = min(_LONGEST_RETRY_MILLISECONDS, _RETRY_MILLISECONDS << min(count, 10))
        self._next[name] = self._clock.now() + pause
        text = str(error)
        self._failed[name] = count + 1, text
        if text != said:
            cure = ""
            if isinstance(error, NotRouted):
                cure = "; " + await daemon_thread.start(advice, self._settings, message.task, fire.outgoing.route)
            self._say(logging.ERROR, f"schedule {name} could not be fired: {text}{cure}; trying again until it works")

    def _tell(self, lease: Lease, fire: _Fire, at: int) -> None:
        schedule, task_id = fire.schedule, fire.outgoing.id
        message = schedule.message
        self._say(logging.INFO, "fired", schedule=schedule.name, task=message.task, id=task_id,
                  late=f"{(at - schedule.due_at(fire.planned)) / 1000:.3f}")  # fmt: skip
        body = write_fired(schedule.name, message.task, task_id, fire.planned, at, self._name)
        lease.tell(Route(names.EVENTS_EXCHANGE, fired_key(schedule.name)), body)
        if message.follow:
            exchange, key = fire.outgoing.route
            event = {"id": task_id, "at": events.now(), "exchange": exchange, "routing_key": key}
            submitted = events.write(Kind.SUBMITTED, message.task, "", [events.write_event(event)])
            lease.tell(Route(names.EVENTS_EXCHANGE, events.key(Kind.SUBMITTED, message.task)), submitted)


def _message(schedule: Schedule, planned: int, now: int) -> Outgoing:
    outgoing = as_outgoing(schedule.message, None, now // 1000, None)
    outgoing.properties.message_id = fire_id(schedule.name, planned)
    return outgoing
