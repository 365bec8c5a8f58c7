"""A task: a function, with the name producers use for it, its queue and its limits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from leveret.consumers.tasks.arguments import Arguments
from leveret.consumers.tasks.kind import Kind
from leveret.consumers.tasks.reading import Misfit
from leveret.consumers.tasks.result import Result
from leveret.topology.errors import MessageError
from leveret.topology.limits import Limit
from leveret.topology.message import check_id
from leveret.topology.queues import WorkQueue

if TYPE_CHECKING:
    from datetime import datetime

    from leveret.consumers.tasks.batch import Batch
    from leveret.producers.following.handle import Submitted
    from leveret.producers.options import Options
    from leveret.topology.message import Follow, TaskMessage
    from leveret.topology.names import Priority

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Task(Generic[P, R]):
    """A named function. Calling it runs the function here and now, as in a test."""

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        queue: WorkQueue,
        time_limit: float,
        soft_time_limit: float | None,
        kind: Kind,
        concurrency: int | None,
        follow: bool = False,
        never: tuple[type[BaseException], ...] = (),
        batch: Batch | None = None,
        limit: Limit | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.queue = queue
        self.time_limit = time_limit
        self.soft_time_limit = soft_time_limit
        self.kind = kind
        self.concurrency = concurrency
        self.follow = follow
        self.never = never
        self.batch = batch
        self.limit = limit
        self.arguments = Arguments(function, name)
        self.result = Result(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        return self.function(*args, **kwargs)

    @overload
    def submit(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Submitted[T]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[R]: ...
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[Any]:
        """Submit it with these arguments and return the id, once the broker confirmed it.

        Raises as `Publisher.submit` does.
        """
        return self.options().submit(*args, **kwargs)

    @overload
    async def submit_async(
        self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Submitted[T]: ...
    @overload
    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[R]: ...
    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[Any]:
        """Do as `submit` does, awaitable on any loop."""
        return await self.options().submit_async(*args, **kwargs)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> TaskMessage:
        """Make its message without sending it, for `submit_many`. Raises `MessageError`."""
        return self.options().message(*args, **kwargs)

    @overload
    def options(
        self: Task[P, Coroutine[Any, Any, T]],
        *,
        id: str | None = None,
        queue: str | None = None,
        exchange: str | None = None,
        routing_key: str | None = None,
        timeout: float | None = None,
        follow: Follow | None = None,
        priority: Priority | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        for_seconds: float | None = None,
    ) -> Options[P, T]: ...
    @overload
    def options(
        self,
        *,
        id: str | None = None,
        queue: str | None = None,
        exchange: str | None = None,
        routing_key: str | None = None,
        timeout: float | None = None,
        follow: Follow | None = None,
        priority: Priority | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        for_seconds: float | None = None,
    ) -> Options[P, R]: ...
    def options(
        self,
        *,
        id: str | None = None,
        queue: str | None = None,
        exchange: str | None = None,
        routing_key: str | None = None,
        timeout: float | None = None,
        follow: Follow | None = None,
        priority: Priority | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        unique: str | None = None,
        for_seconds: float | None = None,
    ) -> Options[P, Any]:
        """Say how the next message travels: `send.options(id="order-17").submit(to=…)`.

        Messages of one `id` are one task, and each of them runs it: the task, or where it stores what it does, has to
        recognise the id. `queue` puts it into exactly that queue; `exchange`
        is "direct", "topic" or "fanout", with `routing_key` (the task's name by default). `timeout` is how many
        seconds to wait for the broker's confirm.

        `follow=True` has this process told what becomes of the task, so that what `submit` returns has results and
        statuses; `follow="record"` has it told to those who record or listen only.

        `priority` is "high", "normal" or "low", among the messages of a queue that has priorities.

        `delay` has it run that many seconds after the message was made, or `at` at that time, which needs a time zone:
        up to 366 days ahead, and by the broker alone. Parts of a second are rounded up.

        With `unique` nothing is submitted while another task has that key, and `submit` returns the id of that one: it
        has it until it has ended, or with `for_seconds` for so long. For that a recorder has to run.

        Raises `MessageError` for what contradicts itself or cannot be sent.
        """
        from leveret.producers import calls, later  # workers never do
        from leveret.producers.options import Options

        if id is not None:
            check_id(id)
        route = calls.route_of(self.name, queue, exchange, routing_key)
        level, follow = calls.check_priority(priority, self.name, route), calls.check_follow(follow)
        later.check_delay(delay, at, route)
        calls.check_unique(unique, for_seconds, follow)
        seconds = calls.check_timeout(timeout)
        return Options(self, id, route, seconds, follow, level, delay, at, unique, for_seconds)

    @property
    def is_typed(self) -> bool:
        """Whether it matters what JSON makes of its arguments. Raises `TaskModuleError` for impossible annotations."""
        return self.arguments.is_typed or bool(self.limit and self.limit.key)

    def prepare(self) -> None:
        """Find out what its annotations mean, before anything runs. Raises `TaskModuleError` for impossible ones."""
        self.arguments.prepare()

    def wants_text(self, parameter: str) -> bool:
        """Whether an annotation says that an argument is text, and nothing else."""
        return self.arguments.wants_text(parameter)

    def check(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise `MessageError` unless it takes these arguments, as a message brings them."""
        try:
            self.arguments.fit(args, kwargs)
        except Misfit as misfit:
            raise MessageError(f"task {self.name!r} cannot be called like this: {misfit}") from misfit
        if self.limit and self.limit.key:
            self.limit_key(args, kwargs)

    def limit_key(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the key of its limit for these arguments, which fit. Raises `MessageError` where there is none."""
        assert self.limit is not None
        bound = self.arguments.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            return self.limit.key_of(bound.arguments)
        except MessageError as error:
            raise MessageError(f"task {self.name!r} cannot be called like this: {error}") from error

    def __repr__(self) -> str:
        return f"<task {self.name} on queue {self.queue.name}>"


AnyTask = Task[Any, Any]
