"""A virtual host of a test's own on a real RabbitMQ, and workers for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock
from urllib.parse import quote, urlsplit

from leveret.producers import default
from leveret.topology import queues, registry, settings
from leveret.topology.access.management import Management
from leveret.topology.apply.declare import declare
from leveret.topology.errors import LeveretError, TaskModuleError
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_LAST_CHARACTERS = 4000


class NoBroker(LeveretError):
    """There is no RabbitMQ in which a test can have a virtual host."""


class WorkerEnded(LeveretError):
    """A worker of a test has ended, or did not start to consume."""


class RunningWorker:
    """A worker process; `log` is what it and its tasks have written so far."""

    def __init__(self, process: subprocess.Popen[bytes], written: Path) -> None:
        self.process = process
        self._written = written

    @property
    def log(self) -> str:
        """Its log, and the standard output and error of its tasks."""
        return self._written.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Tell it to stop, let what runs finish, and return its exit status; 0 is that all did."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait(_STOP_SECONDS)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def _wait(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise WorkerEnded(f"the worker did not end within {seconds:g} s and was killed; {self._last()}") from None

    def _await_consuming(self) -> bool:
        """Return whether it comes to consume, as its log says; not when it ends before that, or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            has_ended = self.process.poll() is not None  # asked before the log, which is complete then
            if "consuming" in self.log:
                return True
            if has_ended:
                return False
            time.sleep(_LOOK_SECONDS)
        return False

    def _last(self) -> str:
        return f"it wrote:\n{self.log[-_LAST_CHARACTERS:]}"


class OwnBroker:
    """A virtual host in which the queues of the loaded modules are declared, and to which everything here is submitted.

    `settings` lead there, `url` is the AMQP URL.
    """

    def __init__(self, configured: Settings, folder: Path) -> None:
        self.settings = configured
        self._folder = folder
        self._workers: list[RunningWorker] = []

    @property
    def url(self) -> str:
        """Where it is, with user and password."""
        return self.settings.amqp_url

    def start_worker(self, *options: str, tasks: Sequence[str] = ()) -> RunningWorker:
        """Start `leveret run` with these options, and return when it consumes; it is stopped after the test.

        It loads the modules of `tasks`, by default those that have defined tasks here. Raises `WorkerEnded` with what
        it wrote when it does not come to consume, and `TaskModuleError` where a task is defined in a function.
        """
        worker = self._run(*options, tasks=tasks)
        if worker._await_consuming():
            return worker
        if (status := worker.process.poll()) is not None:
            raise WorkerEnded(f"the worker ended with status {status}; {worker._last()}")
        worker.kill()
        raise WorkerEnded(f"the worker did not consume within {_START_SECONDS:g} s; {worker._last()}")

    def work(self, *options: str, tasks: Sequence[str] = (), timeout: float = 60.0) -> RunningWorker:
        """Let a worker run until the queues and their retry tiers are empty; returns it, with its log.

        Raises as `start_worker` does, and `WorkerEnded` when it has not ended `timeout` seconds after it has begun to
        consume, which it gets 30 s for.
        """
        worker = self._run("--until-empty", *options, tasks=tasks)
        worker._await_consuming()  # where its log is silent, it merely has longer
        if status := worker._wait(timeout):
            raise WorkerEnded(f"the worker ended with status {status}; {worker._last()}")
        return worker

    def stop_workers(self) -> None:
        """Stop all that still run."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.stop()

    def _run(self, *options: str, tasks: Sequence[str]) -> RunningWorker:
        modules = tasks or _modules()
        written = self._folder / f"worker-{len(self._workers) + 1}.log"
        command = [sys.executable, "-m", "leveret", "run", *(f"--tasks={name}" for name in modules), *options]
        path = os.pathsep.join(entry or "." for entry in sys.path)  # a test's module is found as it was here
        with written.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_environment(self.settings), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            )
        worker = RunningWorker(process, written)
        self._workers.append(worker)
        return worker


@contextlib.contextmanager
def own_broker(folder: Path) -> Iterator[OwnBroker]:
    """Make a virtual host for as long as the context lasts; workers write their logs into the folder.

    Raises `NoBroker` where there is no RabbitMQ, or where its user may make no virtual host.
    """
    try:
        found = default_broker.resolve(settings.load())
        name = f"leveret-test-{uuid.uuid4().hex[:12]}"
        api = Management(found)
        api.call("PUT", "vhosts", name)
    except LeveretError as error:
        raise NoBroker(f"no RabbitMQ lets a test have a virtual host of its own: {error}") from error
    try:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        api.call("PUT", "permissions", name, api.user, document=everything)
        configured = replace(found, amqp_url=_in_vhost(found.amqp_url, name))
        declare(configured, queues.known())
        broker = OwnBroker(configured, folder)
        with mock.patch.dict(os.environ, _environment(configured)), mock.patch.object(default, "_default", None):
            try:
                yield broker
            finally:
                default._close_default()
                broker.stop_workers()
    finally:
        api.call("DELETE", "vhosts", name)


def _modules() -> list[str]:
    defined = [registry.get(name).function for name in registry.names()]
    for function in defined:
        if "<locals>" in function.__qualname__:
            raise TaskModuleError(
                f"{function.__qualname__} of {function.__module__} is a task that is defined in a function, where no "
                "worker finds it; define it in a module, or name the modules to load: start_worker(tasks=[…])"
            )
    if not defined:
        raise TaskModuleError("no task is loaded here; import what defines them, or give start_worker(tasks=[…])")
    return sorted({function.__module__ for function in defined})


def _environment(configured: Settings) -> dict[str, str]:
    return {"AMQP_URL": configured.amqp_url, "MANAGEMENT_URL": configured.management_url}


def _in_vhost(amqp_url: str, name: str) -> str:
    return ";".join(urlsplit(url)._replace(path=f"/{quote(name, safe='')}").geturl() for url in amqp_url.split(";"))
