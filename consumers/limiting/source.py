"""The tokens of one queue: taken when a delivery waits for one, given back when nothing does.

A token that came back to this worker goes to the next delivery here for a short while, and then to the broker, so that
other workers have their turn. Where the channel has ended the broker has the tokens again, while tasks run on that had
them. They are to end before this worker takes any.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from leveret.consumers.log import event
from leveret.consumers.settling.delivery import Delivery
from leveret.topology.errors import LeveretError
from leveret.topology.limits import Tokens
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.tokens import DEBT, TOKEN, make

_SLICE_SECONDS = 0.25
"""So long a token goes from one delivery to the next here; a task that is longer gives it to whoever comes first."""
_REST_SECONDS = 0.05
"""After so long without need what is idle is given back."""
_AGAIN_SECONDS, _LONGEST_AGAIN_SECONDS = 0.2, 15.0
_MOST_ASKED = 256
_KEY_SECONDS = 5.0
"""So long the channel of a key stays open that nobody needs."""


class Token(NamedTuple):
    """A token that is held: by which channel it came, and since when."""

    channel: Any
    tag: int
    since: float


class Source:
    """Has the tokens of one queue that this worker holds, and who here waits for one.

    `on_token` is told who has one now, and `on_needless` that those of a key were not needed for some seconds.
    """

    def __init__(
        self,
        tokens: Tokens,
        may_make: bool,
        longest_seconds: float,
        on_token: Callable[[Delivery], None],
        on_needless: Callable[[Tokens], None],
    ) -> None:
        self.tokens = tokens
        self.waiting: dict[Delivery, None] = {}
        self.in_use: dict[Delivery, Token] = {}
        self.bereft: set[Delivery] = set()
        """What runs on though the broker has its tokens."""
        self._may_make = may_make
        self._longest_seconds = longest_seconds
        self._on_token = on_token
        self._on_needless = on_needless
        self._connection: Any = None
        self._channel: Any = None
        self._asking: Asking | None = None
        self._is_made = False
        self._idle: deque[Token] = deque()
        self._debts: deque[int] = deque()
        self._tag = ""  # of the consumer, if there is one
        self._numbers = itertools.count(1)
        self._prefetch = 0
        self._taken: set[int] = set()  # by the consumer, and unsettled
        self._subscribing: asyncio.Task[None] | None = None
        self._rest_soon: asyncio.TimerHandle | None = None
        self._again_soon: asyncio.TimerHandle | None = None
        self._failed_tries = 0

    def serve(self, connection: Any) -> None:
        """Take tokens over this connection from now on."""
        self._connection, self._is_made = connection, False
        self.look()

    def lose(self) -> None:
        """Take in that the connection, or the channel, has ended, and with it all tokens."""
        self.stop()
        self._drop()

    def _drop(self) -> None:
        if self.tokens.period_seconds is None:
            self.bereft.update(self.in_use)
        self.in_use.clear()
        self._idle.clear()
        self._debts.clear()
        self._taken.clear()
        self._channel, self._tag, self._is_made = None, "", False

    def stop(self) -> None:
        """Ask for nothing any more."""
        if self._subscribing:
            self._subscribing.cancel()
        for timer in filter(None, (self._rest_soon, self._again_soon)):
            timer.cancel()
        self._subscribing = self._rest_soon = self._again_soon = None

    def take(self, delivery: Delivery) -> bool:
        """Give a delivery an idle token, if there is one and nobody is before it; else it waits for one."""
        if self._idle and not self.waiting and not self.bereft:
            self.in_use[delivery] = self._idle.popleft()
            return True
        self.waiting[delivery] = None
        self.look()
        return False

    def give_back(self, delivery: Delivery) -> None:
        """Take in that a delivery needs its token no longer."""
        if token := self.in_use.pop(delivery, None):
            self._use_again(token)
        elif delivery in self.bereft:
            self.bereft.remove(delivery)
            self.look()

    def spend(self, delivery: Delivery) -> None:
        """Have the token of a delivery come back after the period."""
        if (token := self.in_use.pop(delivery, None)) and token.channel.is_open:
            self._taken.discard(token.tag)
            token.channel.basic_nack(token.tag, requeue=False)

    def look(self) -> None:
        """See that there is a token, sooner or later, for all that waits."""
        if self.bereft or self._connection is None:
            return
        while self._idle and self.waiting:
            self._hand(self._idle.popleft())
        needs = len(self.waiting) + len(self._debts)
        if not needs:
            if self.tokens.period_seconds is None:
                self._rest_later()
            else:  # before one is spent, which would make room for another that nobody needs
                self._rest()
        elif not (self._subscribing or self._again_soon) and (not self._tag or len(self._taken) >= self._prefetch):
            asked = min(needs, self.tokens.count + len(self._debts), _MOST_ASKED)
            self._subscribing = asyncio.get_running_loop().create_task(self._subscribe(asked))

    def _hand(self, token: Token) -> None:
        delivery = next(iter(self.waiting))
        del self.waiting[delivery]
        self.in_use[delivery] = token
        self._on_token(delivery)

    def _use_again(self, token: Token) -> None:
        if not token.channel.is_open:
            return
        if self._debts:
            self._pay(token)
        elif self.waiting and not self.bereft and time.monotonic() - token.since < _SLICE_SECONDS:
            self._hand(token)
        else:
            self._taken.discard(token.tag)
            token.channel.basic_nack(token.tag, requeue=True)

    def _pay(self, token: Token) -> None:
        """Have a debt and a token vanish together, for the limit has become smaller."""
        for tag in (self._debts.popleft(), token.tag):
            self._taken.discard(tag)
            token.channel.basic_ack(tag)

    async def _subscribe(self, prefetch: int) -> None:
        """Take so many tokens more, with a consumer that takes the place of the last one."""
        try:
            if self._channel is None:
                await self._open()
            channel, asking, former = self._channel, self._asking, self._tag
            assert asking is not None
            self._tag = f"{host_and_pid()} {next(self._numbers)}"
            self._prefetch, self._taken = prefetch, set()
            if former and channel.is_open:
                channel.basic_cancel(former)
            await asking.ask(lambda answer: channel.basic_qos(prefetch_count=prefetch, callback=answer))
            await asking.ask(
                lambda answer: channel.basic_consume(
                    self.tokens.queue, self._on_message, consumer_tag=self._tag, callback=answer
                )
            )
            self._failed_tries = 0
        except LeveretError as error:
            self._try_again(error)
        finally:
            if self._subscribing is asyncio.current_task():
                self._subscribing = None
        if self._again_soon is None:
            self.look()

    async def _open(self) -> None:
        connection = self._connection
        if not self._is_made:
            if self._may_make:
                await make(connection, self.tokens, self._longest_seconds)
            self._is_made = True
        channel = await open_channel(connection)
        channel.add_on_cancel_callback(lambda _frame: channel.close() if channel.is_open else None)
        channel.add_on_close_callback(self._on_closed)
        self._channel, self._asking = channel, Asking(channel, f"the tokens of limit {self.tokens.limit!r}")

    def _try_again(self, error: LeveretError) -> None:
        self._is_made = False
        if not self._failed_tries and self._connection.is_open:
            event(logging.WARNING, f"tasks wait, for there are no tokens of limit {self.tokens.limit!r}: {error}")
        pause = min(_LONGEST_AGAIN_SECONDS, _AGAIN_SECONDS * 2.0 ** min(self._failed_tries, 10))
        self._failed_tries += 1
        self._again_soon = asyncio.get_running_loop().call_later(pause, self._again)

    def _again(self) -> None:
        self._again_soon = None
        if self._connection.is_open:
            self.look()

    def _on_closed(self, channel: Any, _reason: BaseException) -> None:
        if channel is not self._channel:
            return
        self._drop()
        self.look()

    def _on_message(self, channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        if channel is not self._channel:
            return
        tag = method.delivery_tag
        if method.consumer_tag == self._tag:
            self._taken.add(tag)
        if properties.type == TOKEN and method.redelivered and self.tokens.period_seconds is not None:
            # who had it may have begun its task, and died, or lost its link, before it could be spent
            self._taken.discard(tag)
            channel.basic_nack(tag, requeue=False)
        elif properties.type == TOKEN:
            token = Token(channel, tag, time.monotonic())
            if self._debts:
                self._pay(token)
            elif self.waiting and not self.bereft:
                self._hand(token)
            else:
                self._idle.append(token)
        elif properties.type == DEBT:
            self._debts.append(tag)
            if self._idle:
                self._pay(self._idle.popleft())
        else:
            event(logging.WARNING, f"a message in {self.tokens.queue} that is no token is dropped")
            self._taken.discard(tag)
            channel.basic_ack(tag)
        self.look()

    def _rest_later(self) -> None:
        if self._rest_soon is None and (self._tag or self._idle or self.tokens.has_key):
            self._rest_soon = asyncio.get_running_loop().call_later(_REST_SECONDS, self._rest)

    def _rest(self) -> None:
        """Take no more, and give back what is idle, unless it is needed by now."""
        if self._rest_soon:
            self._rest_soon.cancel()
        self._rest_soon = None
        channel = self._channel
        if self.waiting or self._debts or channel is None or not channel.is_open:
            return
        if self._subscribing:
            self._rest_later()
            return
        if self._tag:
            channel.basic_cancel(self._tag)
            self._tag = ""
        for token in self._idle:
            channel.basic_nack(token.tag, requeue=True)
        self._idle.clear()
        if self.tokens.has_key:
            self._rest_soon = asyncio.get_running_loop().call_later(_KEY_SECONDS, self._leave)

    def _leave(self) -> None:
        """Have those of a key forgotten, unless they are needed by now."""
        self._rest_soon = None
        if self.waiting or self.in_use or self._debts or self._idle or self._tag or self._subscribing:
            self._rest_later()
            return
        channel, self._channel = self._channel, None
        if channel and channel.is_open:
            channel.close()
        if not self.bereft:
            self._on_needless(self.tokens)
