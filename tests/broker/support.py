"""What broker tests share: virtual hosts, workers as processes, and awaiting conditions."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

import pika
import pika.exceptions

from leveret import Route, Settings, WorkQueue, declare
from leveret.topology.local.finding import Broker
from leveret.topology.objects import objects_of
from leveret.topology.settings import CHECKOUT
from tests.broker.warm import Forked, Warm

JOBS = "tests.broker.jobs"
"""The task module most tests run."""
_PATIENCE_SECONDS = 120.0

T = TypeVar("T")
Restart = Callable[[], None]


def await_value(look: Callable[[], T | None], what: str, patience_seconds: float = _PATIENCE_SECONDS) -> T:
    """Look until there is something, and return it; fail when it does not come."""
    deadline = time.monotonic() + patience_seconds
    pause_seconds = 0.02
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pause_seconds)
        pause_seconds = min(0.1, pause_seconds * 1.2)  # many look side by side, and some open a connection for it
    raise AssertionError(f"waited {patience_seconds:g} s in vain for {what}")


class Dead(NamedTuple):
    """A message as it lies in a queue."""

    properties: pika.BasicProperties
    body: bytes

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.headers or {}


class Vhost:
    """A virtual host of a test's own."""

    def __init__(self, found: Broker, name: str) -> None:
        self.name = name
        self.broker = found
        self._path = quote(name, safe="")
        place = urlsplit(found.amqp_url.split(";")[0])
        self.amqp_url = ";".join(
            urlsplit(url)._replace(path=f"/{self._path}").geturl() for url in found.amqp_url.split(";")
        )
        self.settings = Settings(
            amqp_url=self.amqp_url, management_url=found.management_url, publish_timeout_seconds=_PATIENCE_SECONDS
        )
        self._credentials = f"{unquote(place.username or 'guest')}:{unquote(place.password or 'guest')}"
        self.user = unquote(place.username or "guest")
        self._kept: pika.BlockingConnection | None = None
        self._keeping = threading.Lock()

    @classmethod
    def create(cls, found: Broker, ending: str = "") -> Vhost:
        """Make one whose name ends so."""
        made = cls(found, f"test-{uuid.uuid4().hex[:12]}{ending}")
        made.api("PUT", f"vhosts/{made._path}")
        made.api("PUT", f"permissions/{made._path}/{made.user}", {"configure": ".*", "write": ".*", "read": ".*"})
        return made

    def delete(self) -> None:
        if self._kept:
            with contextlib.suppress(pika.exceptions.AMQPError):  # it may have been closed by what was tested
                self._kept.close()
        self.api("DELETE", f"vhosts/{self._path}")

    def api(self, method: str, path: str, document: object | None = None) -> Any:
        """Call RabbitMQ's management API."""
        request = urllib.request.Request(
            f"{self.broker.management_url.rstrip('/')}/api/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(self._credentials.encode()).decode(),
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def declare(self, *queues: WorkQueue) -> None:
        declare(self.settings, queues)

    def connect(self, url: str = "") -> pika.BlockingConnection:
        """Connect by the URL of another user, if one is given."""
        return pika.BlockingConnection([pika.URLParameters(one) for one in (url or self.amqp_url).split(";")])

    @contextlib.contextmanager
    def looking(self) -> Iterator[Any]:
        """Yield a channel to look into queues by, one user at a time; its connection is kept, for many look often."""
        with self._keeping:
            if self._kept is None:
                self._kept = self.connect()
            try:
                channel = self._kept.channel()
            except pika.exceptions.AMQPError:  # it was lost since
                self._kept = self.connect()
                channel = self._kept.channel()
            yield channel
            if channel.is_open:
                channel.close()

    def publish(self, route: Route, body: bytes, url: str = "", **properties: Any) -> None:
        """Publish as a foreign client would: a bare body, confirmed and mandatory."""
        with self.connect(url) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(*route, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)

    def takes(self, size: int) -> bool:
        """Whether the broker takes messages of this size: RabbitMQ before 4.0 does up to 128 MiB, later ones to 16."""
        return size <= (16 if self.api("GET", "overview")["rabbitmq_version"] >= "4" else 128) * 1024 * 1024

    def publish_task(self, route: Route, task: str, task_id: str | None = None, **kwargs: Any) -> None:
        """Publish a task message in the shortest form a foreign client can use."""
        self.publish(route, json.dumps({"task": task, "kwargs": kwargs}).encode(), message_id=task_id)

    def count(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        with self.looking() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def counts(self, queue: WorkQueue) -> dict[str, int]:
        """Return what is ready in every queue of a work queue, where there is something."""
        names = [made.name for made in objects_of(queue).queues]
        return {name: count for name in names if (count := self.count(name))}

    def queues(self) -> set[str]:
        """Return the name of every queue there is."""
        return {queue["name"] for queue in self.api("GET", f"queues/{self.name}")}

    def take(self, queue: str) -> list[Dead]:
        """Take every message out of a queue."""
        taken: list[Dead] = []
        with self.looking() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return taken
                taken.append(Dead(properties, body))

    def ids_in(self, queue: str) -> list[str]:
        """Take every message out of a queue and return the ids, sorted."""
        return sorted(str(dead.properties.message_id) for dead in self.take(queue))

    def fail(self, queue: str, message_id: str) -> None:
        """Take the next message as a worker does, see that it is this one, and reject it."""
        # where a busy broker could not place a dead letter at once, it tries again after three minutes
        await_value(lambda: self.count(queue), f"{message_id} in {queue}", patience_seconds=240)
        with self.connect() as connection:
            channel = connection.channel()
            method, properties, _ = channel.basic_get(queue)
            assert properties.message_id == message_id
            channel.basic_nack(method.delivery_tag, requeue=False)

    def url_of(self, user: str, password: str) -> str:
        """Return the URL of the virtual host for another user."""
        place = urlsplit(self.settings.first_amqp_url)
        return f"{place.scheme}://{quote(user, safe='')}:{password}@{place.hostname}:{place.port or 5672}{place.path}"

    @contextlib.contextmanager
    def limited_user(self, **rights: str) -> Iterator[str]:
        """Make a user with only these rights in the virtual host; yields its URL, with the password `secret`."""
        user = f"{self.name}-limited"
        in_path = quote(user, safe="")
        self.api("PUT", f"users/{in_path}", {"password": "secret", "tags": ""})
        try:
            self.give_limited_user(**rights)
            yield self.url_of(user, "secret")
        finally:
            self.api("DELETE", f"users/{in_path}")

    def settings_for(self, url: str) -> Settings:
        """Return the settings of somebody who connects by another URL."""
        return dataclasses.replace(self.settings, amqp_url=url)

    def give_limited_user(self, **rights: str) -> None:
        """Give that user these rights, and no others."""
        nothing = {"configure": "^$", "write": "^$", "read": "^$"}
        user = quote(f"{self.name}-limited", safe="")
        self.api("PUT", f"permissions/{self._path}/{user}", {**nothing, **rights})

    def take_one(self, queue: str) -> Dead:
        """Wait for a message in a queue, and take it."""
        await_value(lambda: self.count(queue), f"a message in {queue}")
        (one,) = self.take(queue)
        return one


def queues_of(*work_queues: WorkQueue) -> set[str]:
    """Return the name of every queue that these consist of."""
    return {queue.name for work_queue in work_queues for queue in objects_of(work_queue).queues}


def attempt_of(event: dict[str, Any]) -> tuple[int, int]:
    """Return which attempt an event of the log is about, and of how many."""
    return event["attempt"], event["of"]


class Worker:
    """A worker process with its log, read as it comes."""

    def __init__(self, process: subprocess.Popen[str] | Forked) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as log:
            for line in log:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.other_lines.append(line)

    def find(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """Return the events whose message begins like this and that have these fields."""
        return [
            event
            for event in list(self.events)
            if event["message"].startswith(message) and all(event.get(name) == fields[name] for name in fields)
        ]

    def await_event(self, message: str, **fields: object) -> dict[str, Any]:
        """Wait for an event and return it."""

        def look() -> dict[str, Any] | None:
            found = self.find(message, **fields)
            if not found and self.process.poll() is not None:
                raise AssertionError(f"the worker ended with {self.process.returncode}: {self.events[-5:]} {self.text}")
            return found[0] if found else None

        try:
            return await_value(look, f"{message!r} {fields} in the worker's log")
        except AssertionError as error:
            raise AssertionError(f"{error}, which ends with {self.events[-10:]} {self.text}") from None

    @property
    def text(self) -> str:
        """What the worker wrote that is no event."""
        return "".join(self.other_lines)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(_PATIENCE_SECONDS)
        self._reader.join(_PATIENCE_SECONDS)
        return status

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()


class Started:
    """Processes of one virtual host that are ended with the test."""

    def __init__(self, vhost: Vhost, folder: Path) -> None:
        self._folder = folder
        self.environment = {
            **os.environ,
            "AMQP_URL": vhost.amqp_url,
            "MANAGEMENT_URL": vhost.broker.management_url,
            "OUTPUT_DIR": str(folder / "output"),
            "PYTHONPATH": str(CHECKOUT),
        }
        self._started: list[Worker] = []

    def _fork(self, *words: str, **environment: str) -> Worker:
        """Have the warm Python fork it: nobody here tests how it starts, or what `ps` shows of it."""
        environment = {**self.environment, **environment}
        return self._keep(warm().start(words, CHECKOUT, environment, stderr=subprocess.PIPE))

    def _spawn(self, *words: str, **environment: str) -> Worker:
        return self._keep(
            subprocess.Popen(
                [sys.executable, *words[1:]],
                env={**self.environment, **environment},
                stderr=subprocess.PIPE,
                text=True,
                cwd=CHECKOUT,
            )
        )

    def _keep(self, process: subprocess.Popen[str] | Forked) -> Worker:
        self._started.append(Worker(process))
        return self._started[-1]

    def kill_all(self) -> None:
        for one in self._started:
            if one.process.poll() is None:
                one.process.kill()
            one.wait()


class Workers(Started):
    """Starts workers of one virtual host, each as a Python of its own where that `is_real`."""

    def __init__(self, vhost: Vhost, folder: Path, is_real: bool = False) -> None:
        super().__init__(vhost, folder)
        self._is_real = is_real

    def start(self, *options: str, **more: Any) -> Worker:
        """Launch a worker, and wait until it consumes, or has ended."""
        worker = self.launch(*options, **more)
        await_value(lambda: worker.find("consuming") or worker.process.poll() is not None, "the worker")
        return worker

    def launch(
        self,
        *options: str,
        queue: str = "jobs",
        tasks: Iterable[str] = (JOBS,),
        module: str = "consumers.run",
        loop: str = "asyncio",
        **environment: str,
    ) -> Worker:
        """Start a worker, by another module if it prepares something.

        Its event loop for tasks is Python's own unless said otherwise.
        """
        if loop == "asyncio":
            hidden = self._folder / "without"
            hidden.mkdir(exist_ok=True)
            (hidden / "uvloop.py").write_text("raise ImportError('not for this worker')")
            path = environment.get("PYTHONPATH", self.environment["PYTHONPATH"])
            environment["PYTHONPATH"] = f"{hidden}:{path}"
        modules = itertools.chain.from_iterable(("--tasks", module) for module in tasks)
        # what is prepared, and what Python reads as it starts, has to come before leveret is loaded
        is_early = module != "consumers.run" or any(
            name.startswith("PYTHON") for name in {*environment} - {"PYTHONPATH"}
        )
        start = self._spawn if self._is_real or is_early else self._fork
        return start(
            "python", "-m", module, "--queue", queue, *modules, "--log-format", "json", *options, **environment
        )

    def start_with(self, text: str, *options: str, before: str = "", **more: Any) -> Worker:
        """Start a worker with a task module of this text, where this has been done `before` in its process."""
        (self._folder / "own_tasks.py").write_text(f"from tests.broker.jobs import *\n{text}\n")
        (self._folder / "prepared.py").write_text(
            f"import sys\n{before}\nfrom leveret.__main__ import main\nsys.exit(main(['run', *sys.argv[1:]]))\n"
        )
        path = f"{self._folder}:{self.environment['PYTHONPATH']}"
        return self.start(*options, tasks=["own_tasks"], module="prepared", PYTHONPATH=path, **more)

    def drain(self, *options: str, **more: Any) -> Worker:
        """Run a worker until its queues are empty."""
        worker = self.start("--until-empty", *options, **more)
        status = worker.wait()

        assert status == 0, (worker.events[-5:], worker.text)
        return worker


def run(module: str, *arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project to its end; not for who tests how it starts."""
    told = {**os.environ, "PYTHONPATH": str(CHECKOUT), **environment}
    command = ["leveret"] if module == "leveret" else ["python", "-m", module]
    return warm().run([*command, *arguments], CHECKOUT, told, stdin, _PATIENCE_SECONDS)


@functools.cache
def warm() -> Warm:
    """What starts commands for this process; it ends with the session."""
    return Warm()


def run_program(code: str, vhost: Vhost, **environment: str) -> str:
    """Run a program to its end, see that it has nothing to complain about, and return what it printed.

    Of one that does not end the error says where each of its threads was.
    """
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env={**os.environ, "AMQP_URL": vhost.amqp_url, "PYTHONPATH": str(CHECKOUT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, complained = process.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        printed, complained = process.communicate(timeout=_PATIENCE_SECONDS)

    assert (process.returncode, complained) == (0, ""), f"it ended with {process.returncode}: {complained}"
    return printed


def start_waiting_task(vhost: Vhost, folder: Path) -> tuple[Path, Path]:
    """Submit a task that runs until told; returns the file that says it started and the one that ends it."""
    started, go = folder / "started", folder / "go"
    vhost.publish_task(Route.direct("jobs"), "jobs.wait_for", "the-id", path=str(go), started=str(started))
    return started, go


def child_that_runs(started: Path) -> int:
    """Wait for the waiting task to start; returns the process it runs in, which it wrote into this file."""
    return int(await_value(lambda: started.read_text() if started.exists() else "", "the task to start"))


def children_of(pid: int) -> list[int]:
    """The processes that this one forked and has not reaped."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
