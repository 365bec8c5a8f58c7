"""Define tasks: a function, the name producers use for it, its queue and its time limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from leveret.consumers.tasks.arguments import Arguments
from leveret.consumers.tasks.kind import Kind
from leveret.consumers.tasks.reading import Misfit
from leveret.consumers.tasks.result import Result
from leveret.topology import registry
from leveret.topology.errors import MessageError, TaskModuleError
from leveret.topology.message import check_id
from leveret.topology.names import LONGEST_NAME_BYTES
from leveret.topology.printable import printable
from leveret.topology.queues import WorkQueue

if TYPE_CHECKING:
    from leveret.producers.following.handle import Submitted
    from leveret.producers.options import Options
    from leveret.topology.message import Follow, TaskMessage

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

DEFAULT_TIME_LIMIT_SECONDS = 1500.0
"""25 minutes: RabbitMQ takes a message back that is not acknowledged within 30 by default."""

_LONGEST_LIMIT_SECONDS = 1e9  # some 30 years; timers overflow not far beyond


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
    ) -> Options[P, Any]:
        """Say how the next message travels: `send.options(id="order-17").submit(to=…)`.

        Messages of one `id` are one task, and each of them runs it: the task, or where it stores what it does, has to
        recognise the id. `queue` puts it into exactly that queue; `exchange`
        is "direct", "topic" or "fanout", with `routing_key` (the task's name by default). `timeout` is how many
        seconds to wait for the broker's confirm.

        `follow=True` has this process told what becomes of the task, so that what `submit` returns has results and
        statuses; `follow="record"` has it told to those who record or listen only.

        Raises `MessageError` for what contradicts itself or cannot be sent.
        """
        from leveret.producers.calls import check_follow, check_timeout, route_of  # a worker does without them
        from leveret.producers.options import Options

        if id is not None:
            check_id(id)
        route = route_of(self.name, queue, exchange, routing_key)
        return Options(self, id, route, check_timeout(timeout), check_follow(follow))

    @property
    def is_typed(self) -> bool:
        """Whether its annotations say what arguments are to be. Raises `TaskModuleError` for impossible ones."""
        return self.arguments.is_typed

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

    def __repr__(self) -> str:
        return f"<task {self.name} on queue {self.queue.name}>"


def task(
    name: str,
    *,
    queue: WorkQueue,
    time_limit: float = DEFAULT_TIME_LIMIT_SECONDS,
    soft_time_limit: float | None = None,
    concurrency: int | None = None,
    threads: bool = False,
    follow: bool = False,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make the decorated function, plain or `async def`, a task.

    A plain one has its process for itself while it runs. Those that are `async def` run side by side in one, as many
    as the worker's `--concurrency` says; of this task at most `concurrency`, when given. With `threads=True` plain
    ones do so too, in as many threads as `--threads` says: the function has to be safe for that.

    `time_limit` is in seconds, per attempt: the process that overruns it is killed, and the attempt has failed; one
    that runs beside others is cancelled before. `soft_time_limit`, when given, raises `SoftTimeLimitExceeded` inside
    the task earlier. With `follow=True` every message of it is followed, see `Task.options`.

    Raises `TaskModuleError` when the name is taken or out of the queue's topics, when a limit is no positive number
    or beyond 1e9, and when what is decorated is no function, or none that can run like this.
    """
    if not isinstance(name, str) or not 1 <= len(name.encode(errors="replace")) <= LONGEST_NAME_BYTES:
        raise TaskModuleError(f"{name!r} cannot name a task; use @task('mail.send', queue=…)")
    if not isinstance(queue, WorkQueue):
        raise TaskModuleError(f"task {name!r}: queue is {queue!r}, not a WorkQueue")
    if not queue.takes_topic(name):
        raise TaskModuleError(
            f"task {name!r} is on queue {queue.name!r}, whose topics {', '.join(queue.topics)} do not match that "
            "name, so submitting it would not reach the queue; rename the task or add a topic"
        )
    for limit in (time_limit, time_limit if soft_time_limit is None else soft_time_limit):
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not is_number or not 0 < limit <= time_limit or limit > _LONGEST_LIMIT_SECONDS:
            raise TaskModuleError(
                f"task {name!r}: a time limit of {limit!r} is not possible; limits are seconds, more than 0 and "
                f"at most {_LONGEST_LIMIT_SECONDS:g}, the soft one not the larger"
            )

    if concurrency is not None and (isinstance(concurrency, bool) or not isinstance(concurrency, int)):
        raise TaskModuleError(f"task {name!r}: concurrency is {concurrency!r}, not a number of tasks")
    if concurrency is not None and concurrency < 1:
        raise TaskModuleError(f"task {name!r}: with concurrency={concurrency} none could ever run; give 1 or more")

    def define(function: Callable[P, R]) -> Task[P, R]:
        if not callable(function) or not hasattr(function, "__qualname__"):
            raise TaskModuleError(
                f"task {name!r} is {printable(repr(function))}, no function with a name of its own; "
                "define one with def that calls it"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TaskModuleError(f"task {name!r} is a generator, whose body would never run; return instead of yield")
        kind = Kind.ASYNC if inspect.iscoroutinefunction(function) else Kind.THREADS if threads else Kind.PLAIN
        if kind is Kind.ASYNC and threads:
            raise TaskModuleError(
                f"task {name!r} is async def, which threads=True is not for: its like run side by side in one event "
                "loop; leave threads out, or make it a plain function"
            )
        if kind is Kind.PLAIN and concurrency is not None:
            raise TaskModuleError(
                f"task {name!r}: concurrency={concurrency} is for tasks that run side by side, and this is a plain "
                "function, which runs alone in its process; make it async def, or add threads=True"
            )
        return registry.add(
            Task(function, name, queue, float(time_limit), soft_time_limit, kind, concurrency, bool(follow))
        )

    return define


AnyTask = Task[Any, Any]
