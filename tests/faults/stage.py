"""One run of one row: a virtual host, workers, logs and dice of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import time
import urllib.error
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from leveret import Publisher, Route, TaskMessage
from tests.broker.support import Dead, Vhost, Worker, Workers, await_value
from tests.faults import logged, records
from tests.faults.brokers import Place
from tests.faults.nodes import Nodes
from tests.faults.oracle import Account, Blow
from tests.faults.producing import Load, submit_each
from tests.faults.records import Execution
from tests.faults.row import Row

PREFETCH = 8
"""What a worker holds in rows in which it loses its connection, and so what may run twice at most."""
HELD = f"what the worker held: its prefetch, {PREFETCH}"
MARK = "FAULTS_RUN"
"""The environment variable by which every process of a run is known."""
_LONG_TASKS = 0.05


class Stage:
    """What a row's `run` is given. Use it as a context manager: leaving kills what runs and removes the vhost."""

    def __init__(self, row: Row, place: Place, seed: int, folder: Path) -> None:
        self.row = row
        self.place = place
        self.random = random.Random(seed)
        self.folder = folder
        self.executions_log = folder / "executions.log"
        self.submissions_log = folder / "submissions.log"
        self.vhost = Vhost.create(place.broker)
        self.workers = Workers(self.vhost, folder, is_real=True)
        self.mark = f"{self.vhost.name}-{os.getpid()}"
        self.workers.environment |= {logged.EXECUTIONS: str(self.executions_log), MARK: self.mark}
        self.dead: list[Dead] = []
        """What lay in the dead-letter queue."""
        self.excused: set[str] = set()
        self.problems: list[str] = []
        self.leaving: dict[Worker, int | None] = {}
        """Workers the row ended or let end itself, with the exit status it expects; None for any."""
        self.hit: Sequence[str] | None = None
        """The ids the fault hit, when the row knows; see `Account.recovery_seconds`."""
        self.began = self.ended = 0.0
        self.breaks = 0
        """How often connections were lost, of rows that note it."""
        self.blows: list[Blow] = []
        """What struck which processes, of rows that count how often each task ran."""
        self.recovery_seconds: float | None = None
        """Set by a row that measures it in its own way."""
        self.undo = contextlib.ExitStack()
        """What has to be undone after the run."""
        self._started: list[Worker] = []
        self._publisher: Publisher | None = None
        self._closed: set[tuple[str, object]] = set()
        self._numbers = itertools.count(1)
        self.vhost.declare(logged.faults)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.workers.kill_all()
        if self._publisher:
            self._publisher.close()
        self.undo.close()
        self.vhost.delete()

    @property
    def nodes(self) -> Nodes:
        """The nodes under control, of a row that needs them."""
        assert self.place.nodes
        return self.place.nodes

    @property
    def publisher(self) -> Publisher:
        """The producer of this run."""
        if self._publisher is None:
            self._publisher = Publisher(self.vhost.settings)
        return self._publisher

    @property
    def alive(self) -> list[Worker]:
        """The workers that run."""
        return [worker for worker in self._started if worker.process.poll() is None]

    @property
    def started(self) -> Sequence[Worker]:
        """All workers of this run."""
        return self._started

    def account(self) -> Account:
        """Return what is known so far."""
        return Account(
            records.submissions(self.submissions_log),
            records.executions(self.executions_log),
            Counter(str(dead.properties.message_id) for dead in self.dead),
            self.excused,
        )

    def worker(
        self,
        *options: str,
        processes: int = 2,
        may_end: bool = False,
        tasks: str = "tests.faults.jobs",
        **more: Any,
    ) -> Worker:
        """Start a worker and wait until it consumes."""
        made = self.workers.start(
            "--processes", str(processes), *options, queue=logged.faults.name, tasks=[tasks], **more
        )
        self._started.append(made)
        assert may_end or made.process.poll() is None, f"a worker did not start: {made.events[-3:]} {made.text[-1000:]}"
        return made

    def end(self, worker: Worker) -> None:
        """Tell a worker to stop and see that it leaves as it should, before what it works through is gone."""
        self.leaving[worker] = 0
        self.expect(worker.stop() == 0, f"worker {worker.process.pid} did not leave with status 0")

    def messages(self, count: int) -> list[TaskMessage]:
        """Make messages for tasks of a few milliseconds, some of them longer (0.2 to 1 s)."""
        return [
            self.message("faults.work", seconds=self.random.uniform(0.2, 1.0))
            if self.random.random() < _LONG_TASKS
            else self.message("faults.work", seconds=self.random.uniform(0.001, 0.008))
            for _ in range(count)
        ]

    def message(self, task: str, **kwargs: object) -> TaskMessage:
        """Make a message; its id tells the order of making."""
        return TaskMessage.create(task, kwargs=kwargs, id=f"m{next(self._numbers):05}")

    def submit(self, *messages: TaskMessage, route: Route | None = None, by: Publisher | None = None) -> list[str]:
        """Submit now, one after the other, by the run's own producer or another; returns the ids."""
        submit_each(by or self.publisher, self.submissions_log, messages, route=route)
        return [message.id for message in messages]

    def publish_raw(self, task_id: str, body: bytes, **properties: Any) -> None:
        """Publish what no producer of ours would, confirmed."""
        self.vhost.publish(Route.direct(logged.faults.name), body, message_id=task_id, **properties)
        records.append(self.submissions_log, task_id, records.CONFIRMED, "")

    def errors(self) -> list[str]:
        """Return what submit has raised so far, each as type and text."""
        return [one.error for one in self.account().submissions if one.what == records.UNKNOWN]

    def load(self, count: int = 150, seconds: float = 2.5, among: Sequence[TaskMessage] = ()) -> Load:
        """Submit so many messages, and these among them, spread over so many seconds, while the block runs."""
        messages = [*self.messages(count), *among]
        self.random.shuffle(messages)
        return Load(self.publisher, self.submissions_log, messages, seconds / len(messages))

    def wait_a_moment(self, least: float = 0.3, most: float = 1.8) -> None:
        """Wait until the random moment at which the fault comes."""
        time.sleep(self.random.uniform(least, most))

    def await_running(self, *tasks: str) -> Execution:
        """Wait until a child is at work (on one of these ids), and return the attempt it runs."""

        def look() -> Execution | None:
            running = [one for one in self.account().running() if not tasks or one.id in tasks]
            return self.random.choice(running) if running else None

        return await_value(look, "a task at work")

    def await_finished(self, *ids: str) -> None:
        """Wait until all of these were executed or parked, as patiently as the row is."""
        await_value(lambda: not set(ids) & self.account().missing, "the end of tasks", self.row.patience_seconds)

    def blow(self, hit: Sequence[str] | None = None) -> None:
        """Note that the fault happens now, at a single blow."""
        self.began = self.ended = time.monotonic()
        self.hit = hit

    @contextlib.contextmanager
    def fault(self) -> Iterator[None]:
        """Note when the fault begins and ends."""
        self.began = self.ended = time.monotonic()
        yield
        self.ended = time.monotonic()

    def expect(self, holds: object, otherwise: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(otherwise)

    def held(self) -> int:
        """Return how many messages a worker held that was started with `--prefetch` and `PREFETCH`."""
        return PREFETCH

    def in_flight(self) -> int:
        """Return how many messages were begun, or hardly settled, when the fault began."""
        return len(self.account().in_flight(self.began))

    def close_connections(self, least: int = 1, user: str = "") -> None:
        """Have the broker close the workers' connections, as an operator can; of this user only, if one is named.

        The management API learns of connections with some delay, and forgets them so, too: this waits until it
        knows of so many that were not closed here before.
        """

        def look() -> list[tuple[str, object]] | None:
            known = [
                (one["name"], one.get("connected_at"))  # a port, and so a name, may come again
                for one in self.vhost.api("GET", f"vhosts/{self.vhost.name}/connections")
                if one.get("client_properties", {}).get("connection_name", "").startswith("leveret worker of ")
                and user in ("", one.get("user"))
            ]
            known = [one for one in known if one not in self._closed]
            return known if len(known) >= least else None

        for one in await_value(look, f"{least} connections of workers in the management API"):
            self._closed.add(one)
            with contextlib.suppress(urllib.error.HTTPError):  # it has ended by itself
                self.vhost.api("DELETE", f"connections/{urllib.parse.quote(one[0], safe='')}")

    def with_url(self, amqp_url: str) -> Publisher:
        """Return another producer of this virtual host, by another way; the caller closes it."""
        return Publisher(dataclasses.replace(self.vhost.settings, amqp_url=amqp_url))
