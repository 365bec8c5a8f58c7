"""Define tasks: what `@task` takes, and what it refuses."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from leveret.consumers.tasks.kind import Kind
from leveret.consumers.tasks.task import AnyTask, Task
from leveret.topology import limits, registry
from leveret.topology.errors import TaskModuleError
from leveret.topology.limits import Limit
from leveret.topology.names import LONGEST_NAME_BYTES
from leveret.topology.printable import printable
from leveret.topology.queues import WorkQueue

if TYPE_CHECKING:
    from leveret.consumers.tasks.batch import Batch
    from leveret.consumers.tasks.batch_task import DefinesBatchTask

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TIME_LIMIT_SECONDS = 1500.0
"""25 minutes: RabbitMQ takes a message back that is not acknowledged within 30 by default."""

_LONGEST_LIMIT_SECONDS = 1e9  # some 30 years; timers overflow not far beyond


@overload
def task(
    name: str,
    *,
    queue: WorkQueue,
    time_limit: float = DEFAULT_TIME_LIMIT_SECONDS,
    soft_time_limit: float | None = None,
    concurrency: int | None = None,
    threads: bool = False,
    follow: bool = False,
    never: Sequence[type[BaseException]] = (),
    limit: Limit | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
@overload
def task(
    name: str,
    *,
    queue: WorkQueue,
    time_limit: float = DEFAULT_TIME_LIMIT_SECONDS,
    soft_time_limit: float | None = None,
    follow: bool = False,
    never: Sequence[type[BaseException]] = (),
    batch: Batch,
) -> DefinesBatchTask: ...
def task(
    name: str,
    *,
    queue: WorkQueue,
    time_limit: float = DEFAULT_TIME_LIMIT_SECONDS,
    soft_time_limit: float | None = None,
    concurrency: int | None = None,
    threads: bool = False,
    follow: bool = False,
    never: Sequence[type[BaseException]] = (),
    limit: Limit | None = None,
    batch: Batch | None = None,
) -> Any:
    """Make the decorated function, plain or `async def`, a task.

    A plain one has its process for itself while it runs. Those that are `async def` run side by side in one, as many
    as the worker's `--concurrency` says; of this task at most `concurrency`, when given. With `threads=True` plain
    ones do so too, in as many threads as `--threads` says: the function has to be safe for that.

    `time_limit` is in seconds, per attempt: the process that overruns it is killed, and the attempt has failed; one
    that runs beside others is cancelled before. `soft_time_limit`, when given, raises `SoftTimeLimitExceeded` inside
    the task earlier. With `follow=True` every message of it is followed, see `Task.options`.

    Exceptions of the classes in `never`, and of their subclasses, never lead to a further attempt: a message whose
    task raises one goes to the dead-letter queue at once, as with `Reject`.

    With `batch=Batch(100, within_seconds=2)` the function takes a list of up to so many calls at once, and the limits
    are for all of them together; each message still is one call, which is retried or buried by itself.

    `limit` says how many of it run at the same time, or begin in a period, at all workers together, see `Limit`.

    Raises `TaskModuleError` when the name is taken or out of the queue's topics, when a limit is no positive number
    or beyond 1e9, when `never` is no tuple of exception classes, and when what is decorated is no function, or none
    that can run like this.
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
    for seconds in (time_limit, time_limit if soft_time_limit is None else soft_time_limit):
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds <= time_limit or seconds > _LONGEST_LIMIT_SECONDS:
            raise TaskModuleError(
                f"task {name!r}: a time limit of {seconds!r} is not possible; limits are seconds, more than 0 and "
                f"at most {_LONGEST_LIMIT_SECONDS:g}, the soft one not the larger"
            )

    if concurrency is not None and (isinstance(concurrency, bool) or not isinstance(concurrency, int)):
        raise TaskModuleError(f"task {name!r}: concurrency is {concurrency!r}, not a number of tasks")
    if concurrency is not None and concurrency < 1:
        raise TaskModuleError(f"task {name!r}: with concurrency={concurrency} none could ever run; give 1 or more")

    _check_never(name, never)
    named_limit = _named_limit(limit, name, time_limit)

    def define(function: Callable[..., Any]) -> AnyTask:
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
        if batch is not None:
            if limit is not None:
                raise TaskModuleError(
                    f"task {name!r}: limit counts tasks one by one, and a batch begins many at once; leave one of them "
                    "out, or limit its queue"
                )
            return _batch_task(
                function,
                name,
                queue,
                (float(time_limit), soft_time_limit),
                kind,
                concurrency,
                follow,
                tuple(never),
                batch,
            )
        if kind is Kind.PLAIN and concurrency is not None:
            raise TaskModuleError(
                f"task {name!r}: concurrency={concurrency} is for tasks that run side by side, and this is a plain "
                "function, which runs alone in its process; make it async def, or add threads=True"
            )
        made = Task(
            function,
            name,
            queue,
            float(time_limit),
            soft_time_limit,
            kind,
            concurrency,
            bool(follow),
            tuple(never),
            limit=named_limit,
        )
        if named_limit:
            limits.check_fields(named_limit, made.arguments.names, f"task {name!r}")
            limits.enter(named_limit, f"task {name!r}")
        return registry.add(made)

    return define


def _check_never(name: str, never: object) -> None:
    if not isinstance(never, (tuple, list)):
        raise TaskModuleError(f"task {name!r}: never is {printable(repr(never))}; give a tuple, as never=(ValueError,)")
    for one in never:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TaskModuleError(
                f"task {name!r}: {printable(repr(one))} in never is no exception class; give classes, as "
                "never=(ValueError,)"
            )


def _batch_task(
    function: Callable[..., Any],
    name: str,
    queue: WorkQueue,
    limits: tuple[float, float | None],
    kind: Kind,
    concurrency: int | None,
    follow: bool,
    never: tuple[type[BaseException], ...],
    batch: Batch,
) -> AnyTask:
    from leveret.consumers.tasks.batch import Batch as Known  # most modules define none
    from leveret.consumers.tasks.batch_task import BatchTask

    if not isinstance(batch, Known):
        raise TaskModuleError(f"task {name!r}: batch is {batch!r}, not a Batch; use batch=Batch(100, within_seconds=2)")
    if kind is Kind.THREADS or concurrency is not None:
        given = "threads=True" if kind is Kind.THREADS else f"concurrency={concurrency}"
        raise TaskModuleError(
            f"task {name!r}: {given} is for tasks that run side by side, and a batch has its process for itself; leave "
            "one of them out"
        )
    return registry.add(BatchTask(function, name, queue, *limits, Kind.PLAIN, None, bool(follow), never, batch))


def _named_limit(limit: Limit | None, task: str, time_limit: float) -> Limit | None:
    """Return a task's limit with its name. Raises `TaskModuleError` when the task cannot have it."""
    if limit is None:
        return None
    if not isinstance(limit, Limit):
        raise TaskModuleError(f"task {task!r}: limit is {limit!r}, no Limit; write limit=Limit(at_once=2)")
    if limit.key and limit.at_once and time_limit > limits.LONGEST_KEYED_TASK_SECONDS:
        raise TaskModuleError(
            f"task {task!r} has a limit for each key, and may run for {time_limit:g} s; give it a time_limit of at "
            f"most {limits.LONGEST_KEYED_TASK_SECONDS:g} s: what nobody seems to need of a key is forgotten"
        )
    try:
        return limit if limit.name else dataclasses.replace(limit, name=task)
    except TaskModuleError as error:
        raise TaskModuleError(f"task {task!r}: {error}") from error
