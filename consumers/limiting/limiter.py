"""The gate of limits: a delivery begins when its worker has a token of each limit, and gives them back when it ends.

Deliveries that wait hold no process. Those that need no more than tokens of all are asked for only as many as can begin
here, so that what another worker could run is left to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.limiting.needs import Needs
from leveret.consumers.limiting.source import Source
from leveret.consumers.running.pool import Pool
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer
from leveret.topology.errors import MessageError
from leveret.topology.events import Kind
from leveret.topology.limits import Tokens

_AHEAD = ((0.0005, 256), (0.002, 32), (0.010, 8))  # tasks of up to so many seconds: so many for each that can run
_PACE_SECONDS = 0.05
"""So long it is taken to be the same how many can begin."""
_MOMENT_SECONDS = 0.5
_LOOK_SECONDS = 0.25

OnEnd = Callable[[Delivery, Outcome], None]
Tell = Callable[[Kind, Delivery, str, Mapping[str, Any]], None]


class _Claim:
    """How far a delivery has come with its tokens."""

    __slots__ = ("has_begun", "has_place", "is_told", "needs", "reached", "since")

    def __init__(self, needs: Sequence[Tokens]) -> None:
        self.needs = needs
        self.reached = 0  # so many it has
        self.has_place = self.has_begun = False
        self.is_told = False
        self.since = time.monotonic()

    @property
    def is_granted(self) -> bool:
        return self.reached == len(self.needs)


class Limiter:
    """Holds deliveries until they have their tokens. `pool` is the one that they run in, set before any comes."""

    pool: Pool

    def __init__(self, needs: Needs, may_make: bool, longest_seconds: float, settle: OnEnd, tell: Tell) -> None:
        """`may_make` says whether tokens may be made that are not there; those of a key always are."""
        self._needs = needs
        self._may_make = may_make
        self._longest_seconds = longest_seconds
        self._settle = settle
        self._tell = tell
        self._connection: Any = None
        self._sources: dict[Tokens, Source] = {}
        self._claims: dict[Delivery, _Claim] = {}
        self._places: dict[str, int] = {}  # queue → how many have a place
        self._most: dict[str, tuple[float, int]] = {}  # queue → until when how many have one at most
        self._lines: dict[str, dict[Delivery, None]] = {}  # queue → those that wait for a place
        self._looking: asyncio.TimerHandle | None = None

    def gate(self, delivery: Delivery) -> Answer:
        """Let a delivery begin that has its tokens, or needs none; the others begin when they have them."""
        try:
            needs = self._needs.of(delivery)
        except MessageError as error:
            failure = Failure("WrongArguments", str(error), "", "WrongArguments")
            self._settle(delivery, Outcome(Ending.WRONG_ARGUMENTS, delivery.task, 0.0, failure))
            return Answer.NEVER
        if not needs:
            return Answer.BEGIN
        self._claims[delivery] = claim = _Claim(needs)
        if self._advance(delivery, claim):
            return Answer.BEGIN
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        return Answer.LATER

    def start(self, delivery: Delivery) -> None:
        """Take in that a delivery has begun, and spend what tokens it has of rates.

        Not before, for it may take a while until a child begins what it was given; in time to be away for the period.
        """
        claim = self._claims.get(delivery)
        if claim and not claim.has_begun:
            claim.has_begun = True
            for tokens in claim.needs:
                if tokens.period_seconds is not None:
                    self._sources[tokens].spend(delivery)

    def end(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle a delivery that has ended, and give its tokens back."""
        self._settle(delivery, outcome)
        self.start(delivery)
        self._release((delivery,))

    def withdraw(self, deliveries: Iterable[Delivery]) -> None:
        """Take in that these do not run here."""
        self._release(deliveries)

    def serve(self, connection: Any) -> None:
        """Take tokens over this connection from now on."""
        self._connection = connection
        for source in self._sources.values():
            source.serve(connection)

    def lose(self) -> None:
        """Take in that the connection has ended."""
        self._connection = None
        for source in self._sources.values():
            source.lose()
            source.serve(None)

    def stop(self) -> None:
        """Ask for nothing any more."""
        if self._looking:
            self._looking.cancel()
        for source in self._sources.values():
            source.stop()

    def told(self) -> list[dict[str, Any]]:
        """Return what there is to tell of each limit: its tokens, those in use here, and what waits here."""
        rows: dict[tuple[str, int, float | None], dict[str, Any]] = {}
        for source in self._sources.values():
            tokens = source.tokens
            row = rows.setdefault(
                (tokens.limit, tokens.count, tokens.period_seconds),
                {
                    "name": tokens.limit,
                    "tokens": tokens.count,
                    "per_seconds": tokens.period_seconds,
                    "has_key": tokens.has_key,
                    "in_use": 0,
                    "waiting": 0,
                },
            )
            row["in_use"] += len(source.in_use) + len(source.bereft)
            row["waiting"] += len(source.waiting)
        return list(rows.values())

    def _advance(self, delivery: Delivery, claim: _Claim) -> bool:
        """Have a delivery take the tokens that are here; returns whether it has all."""
        while not claim.is_granted:
            tokens = claim.needs[claim.reached]
            if not (tokens.has_key or claim.has_place or self._take_place(delivery, claim)):
                return False
            if not self._source(tokens).take(delivery):
                return False
            claim.reached += 1
        return True

    def _on_token(self, delivery: Delivery) -> None:
        claim = self._claims[delivery]
        claim.reached += 1
        self._go_on(delivery, claim)

    def _go_on(self, delivery: Delivery, claim: _Claim) -> None:
        if self._advance(delivery, claim):
            self.pool.begin(delivery)

    def _release(self, deliveries: Iterable[Delivery]) -> None:
        """Have deliveries wait for nothing any more, and then give to others what they had: to none of these."""
        released = [(delivery, claim) for delivery in deliveries if (claim := self._claims.pop(delivery, None))]
        for delivery, claim in released:
            self._lines.get(delivery.queue.name, {}).pop(delivery, None)
            if not claim.is_granted and (source := self._sources.get(claim.needs[claim.reached])):
                source.waiting.pop(delivery, None)
        for delivery, claim in released:
            name = delivery.queue.name
            if claim.has_place:
                self._places[name] -= 1
                if line := self._lines.get(name):  # first, for the next is to have the tokens
                    self._fill_places(name, line)
            for tokens in claim.needs[: claim.reached]:
                if source := self._sources.get(tokens):  # that of a key whose token was spent may be forgotten
                    source.give_back(delivery)

    def _source(self, tokens: Tokens) -> Source:
        source = self._sources.get(tokens)
        if source is None:
            may_make = self._may_make or tokens.has_key
            source = Source(tokens, may_make, self._longest_seconds, self._on_token, self._sources.__delitem__)
            self._sources[tokens] = source
            source.serve(self._connection)
        return source

    def _take_place(self, delivery: Delivery, claim: _Claim) -> bool:
        name = delivery.queue.name
        taken = self._places.get(name, 0)
        if taken >= self._most_places(name):
            self._lines.setdefault(name, {})[delivery] = None
            return False
        self._places[name] = taken + 1
        claim.has_place = True
        return True

    def _fill_places(self, name: str, line: dict[Delivery, None]) -> None:
        free = self._most_places(name) - self._places[name]
        while line and free > 0:
            free -= 1
            delivery = next(iter(line))
            del line[delivery]
            self._go_on(delivery, self._claims[delivery])

    def _most_places(self, queue: str) -> int:
        """Return how many of a queue can begin here soon."""
        until, most = self._most.get(queue, (0.0, 0))
        now = time.monotonic()
        if now >= until:
            pace = self.pool.pace_of(queue)
            ahead = next((count for longest, count in _AHEAD if pace <= longest), 1)
            most = ahead * self.pool.runs_at_once(queue)
            self._most[queue] = (now + _PACE_SECONDS, most)
        return most

    def _look(self) -> None:
        """Tell of what waits for longer than a moment."""
        self._looking = None
        waiting = [(delivery, claim) for delivery, claim in self._claims.items() if not claim.is_granted]
        if not waiting:
            return
        self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        until = time.monotonic() - _MOMENT_SECONDS
        for delivery, claim in waiting:
            if delivery.reply_to and not claim.is_told and claim.since <= until:
                claim.is_told = True
                task = delivery.task or delivery.task_name()
                self._tell(Kind.BLOCKED, delivery, task, {"by": f"limit {claim.needs[claim.reached].limit}"})
