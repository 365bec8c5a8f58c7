"""Many at once: tasks that wait run side by side in one process, and who ends it for all of them is found."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from leveret import Route, WorkQueue
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, children_of
from tests.broker.waiting_jobs import mixed, threads, waiting

JOBS = "tests.broker.waiting_jobs"


class Folder:
    """Where the tasks of a test meet."""

    def __init__(self, vhost: Vhost, path: Path) -> None:
        self._vhost = vhost
        self.path = path

    @property
    def began(self) -> list[tuple[str, int, int]]:
        """The id, attempt and process of each run, in the order in which they began."""
        file = self.path / "began"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(task, int(attempt), int(process)) for task, attempt, process in map(str.split, lines)]

    @property
    def runs(self) -> Counter[str]:
        """How often each began."""
        return Counter(task for task, _, _ in self.began)

    def await_begun(self, count: int) -> set[int]:
        """Wait until so many runs have begun, and return their processes."""
        await_value(lambda: len(self.began) >= count, f"{count} runs, of which there are {len(self.began)}")
        return {process for _, _, process in self.began}

    def say(self, word: str) -> None:
        """Let go what waits for this word."""
        (self.path / word).touch()

    def publish(self, queue: WorkQueue, task: str, *ids: str, **kwargs: Any) -> None:
        for task_id in ids:
            self._vhost.publish_task(Route.direct(queue.name), task, task_id, folder=str(self.path), **kwargs)


@pytest.fixture
def folder(vhost: Vhost, tmp_path: Path) -> Folder:
    for queue in (waiting, threads, mixed):
        vhost.declare(queue)
    return Folder(vhost, tmp_path)


def ids(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


def start(workers: Workers, queue: WorkQueue, *options: str, **more: Any) -> Worker:
    return workers.start("--processes", "1", *options, queue=queue.name, tasks=[JOBS], **more)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_async_tasks_run_side_by_side(vhost: Vhost, workers: Workers, folder: Folder, loop: str) -> None:
    """All have begun in one process before the first has ended."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 40))
    worker = start(workers, waiting, loop=loop)

    assert len(folder.await_begun(40)) == 1
    folder.say("go")
    for name in ids("wait", 40):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert vhost.counts(waiting) == {}


def test_as_many_as_concurrency_says(workers: Workers, folder: Folder) -> None:
    """No more than so many begin, until others have ended."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 12))
    worker = start(workers, waiting, "--concurrency", "5")
    folder.await_begun(5)
    folder.publish(waiting, "waiting.brief", "brief")
    worker.signal(signal.SIGUSR1)
    worker.await_event("still running", id="wait-4")

    assert len(folder.began) == 5
    folder.say("go")
    worker.await_event("done", id="brief")
    assert worker.stop() == 0


def test_a_concurrency_of_one_runs_one_after_the_other(workers: Workers, folder: Folder) -> None:
    """As plain tasks do."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 3))
    worker = start(workers, waiting, "--concurrency", "1")
    folder.await_begun(1)
    worker.signal(signal.SIGUSR1)
    worker.await_event("still running", id="wait-0")

    assert len(folder.began) == 1
    folder.say("go")
    worker.await_event("done", id="wait-2")


def test_a_task_may_be_limited_to_fewer(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Others pass those that have to wait for their like."""
    folder.publish(waiting, "waiting.few", *ids("few", 8))
    folder.publish(waiting, "waiting.brief", *ids("brief", 8))
    worker = start(workers, waiting)
    for name in ids("brief", 8):
        worker.await_event("done", id=name)

    assert sorted(task for task in folder.runs if task.startswith("few")) == ["few-0", "few-1", "few-2"]
    folder.say("go")
    for name in ids("few", 8):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert vhost.counts(waiting) == {}


def test_every_kind_of_task_in_one_queue(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """What computes holds up no task that waits, and each kind runs as it should, in processes of its own."""
    folder.publish(mixed, "mixed.compute", *ids("compute", 3))
    worker = start(workers, mixed, "--threads", "20", "--prefetch", "50")
    folder.await_begun(1)
    folder.publish(mixed, "mixed.wait", *ids("wait", 10))
    folder.publish(mixed, "mixed.thread", *ids("thread", 10))
    for name in (*ids("wait", 10), *ids("thread", 10)):
        worker.await_event("done", id=name, attempt=1)

    assert folder.runs["compute-1"] == 0
    processes = {kind: {process for task, _, process in folder.began if kind in task} for kind in ("wait", "thread")}
    assert [len(each) for each in processes.values()] == [1, 1]
    assert len(folder.await_begun(21)) == 3
    folder.say("go")
    worker.await_event("done", id="compute-2")
    assert worker.stop() == 0
    assert vhost.counts(mixed) == {}


def test_waiting_tasks_behind_plain_ones(workers: Workers, folder: Folder) -> None:
    """Of a queue with several kinds more is taken as more of them run side by side, without being told."""
    folder.publish(mixed, "mixed.compute", "compute")
    worker = start(workers, mixed)
    folder.await_begun(1)
    folder.publish(mixed, "mixed.wait", *ids("wait", 10))  # each waits for all ten

    for name in ids("wait", 10):
        worker.await_event("done", id=name, attempt=1)
    folder.say("go")
    assert worker.stop() == 0


def test_threads_run_side_by_side(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """As many as the option says, each in its own."""
    folder.publish(threads, "threads.wait", *ids("wait", 12))
    worker = start(workers, threads, "--threads", "10")

    assert len(folder.await_begun(10)) == 1
    assert len(folder.began) == 10
    folder.say("go")
    for name in ids("wait", 12):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert vhost.counts(threads) == {}


def test_without_the_option_threads_are_none(workers: Workers, folder: Folder) -> None:
    """A task that allows threads runs alone in its process, as a plain one."""
    folder.publish(threads, "threads.wait", *ids("wait", 2))
    worker = start(workers, threads)
    folder.await_begun(1)
    worker.signal(signal.SIGUSR1)
    worker.await_event("still running", id="wait-0")

    assert len(folder.began) == 1
    folder.say("go")
    worker.await_event("done", id="wait-1")


def test_who_kills_all_is_found(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Each that ran beside it runs once more, alone; it alone has used up an attempt, and is buried in the end."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 30))
    folder.publish(waiting, "waiting.crash", "crash")
    worker = start(workers, waiting)
    folder.await_begun(31)
    folder.say("crash")
    worker.await_event("a child process died (exit status -11) with 31 tasks begun")
    folder.say("go")

    assert worker.await_event("bury", id="crash")["attempt"] == 3
    for name in ids("wait", 30):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert max(folder.runs[name] for name in ids("wait", 30)) <= 2
    assert [attempt for task, attempt, _ in folder.began if task == "crash"] == [1, 1, 2, 3]
    dead = vhost.take_one("waiting.dlq")
    assert dead.properties.message_id == "crash"
    assert "signal 11 (SIGSEGV)" in dead.headers["failure-message"]
    assert vhost.counts(waiting) == {}


def test_who_dies_alone_is_known_at_once(workers: Workers, folder: Folder) -> None:
    """Nobody else has to run again to know it."""
    folder.say("crash")
    folder.publish(waiting, "waiting.crash", "crash")
    worker = start(workers, waiting)

    worker.await_event("bury", id="crash", attempt=3)
    assert folder.runs == {"crash": 3}


def test_killed_from_outside(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Nobody is to blame, and nobody is blamed."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 20))
    worker = start(workers, waiting)
    (process,) = folder.await_begun(20)
    os.kill(process, signal.SIGKILL)
    worker.await_event("a child process died (exit status -9) with 20 tasks begun")
    folder.say("go")

    for name in ids("wait", 20):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert max(folder.runs.values()) == 2
    assert vhost.counts(waiting) == {}


def test_a_blocked_loop_costs_its_process(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """What runs beside it is run again, and who blocks it is found by the time limit it overruns alone."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 5))
    worker = start(workers, waiting)
    folder.await_begun(5)
    folder.publish(waiting, "waiting.block", "block")
    worker.await_event("a child process died (exit status -9, time limit) with 6 tasks begun")
    folder.say("go")

    for name in ids("wait", 5):
        worker.await_event("done", id=name, attempt=1)
    assert worker.await_event("bury", id="block")["error"].startswith("TimeLimitExceeded")
    assert worker.stop() == 0
    assert vhost.take_one("waiting.dlq").properties.message_id == "block"
    assert vhost.counts(waiting) == {}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_who_keeps_the_loop_is_named_while_it_does(workers: Workers, folder: Folder, loop: str) -> None:
    """With the line where it is, for what runs beside it waits."""
    folder.publish(waiting, "waiting.hog", "hog")
    worker = start(workers, waiting, loop=loop)

    told = worker.await_event("a task has kept the event loop", task="waiting.hog", id="hog", level="warning")
    assert re.match(r".*waiting_jobs\.py:\d+ in hog( → .*)?$", told["at"])
    folder.say("go")
    worker.await_event("done", id="hog", attempt=1)


def test_who_swallows_its_cancellation_is_known(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """The loop turns, so nobody else can be to blame: the others run again beside each other."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 5))
    worker = start(workers, waiting)
    folder.await_begun(5)
    folder.publish(waiting, "waiting.swallow", "swallow")
    worker.await_event("a child process died (exit status -9, time limit) of one task, with 5 others begun")
    folder.say("go")

    for name in ids("wait", 5):
        worker.await_event("done", id=name, attempt=1)
    assert worker.await_event("bury", id="swallow", attempt=3)["error"].startswith("TimeLimitExceeded")
    assert worker.stop() == 0
    assert folder.runs["swallow"] == 3
    assert max(folder.runs[name] for name in ids("wait", 5)) == 2
    assert vhost.take_one("waiting.dlq").properties.message_id == "swallow"


def test_others_that_were_cancelled_run_alone(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """They may swallow it as well, and their neighbours must not run again for each of them."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 5))
    worker = start(workers, waiting)
    folder.await_begun(5)
    folder.publish(waiting, "waiting.swallow", *ids("swallow", 3))
    for name in ids("swallow", 3):
        assert worker.await_event("bury", id=name, attempt=3)["error"].startswith("TimeLimitExceeded")
    folder.say("go")

    for name in ids("wait", 5):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert len(worker.find("a child process died")) == 1
    assert [folder.runs[name] for name in ids("wait", 5)] == [2] * 5
    assert vhost.counts(waiting) == {"waiting.dlq": 3}


@pytest.mark.parametrize(("queue", "task"), [(waiting, "waiting.overrun"), (threads, "threads.overrun")])
def test_the_time_limit_ends_one_alone(workers: Workers, folder: Folder, queue: WorkQueue, task: str) -> None:
    """It can clean up, and what runs beside it goes on."""
    folder.publish(queue, f"{queue.name}.wait", *ids("wait", 5))
    worker = start(workers, queue, "--threads", "10")
    folder.await_begun(5)
    folder.publish(queue, task, "overrun")

    buried = worker.await_event("bury", id="overrun", attempt=3)
    assert "TimeLimitExceeded: the task overran its time limit and was cancelled" in buried["error"]
    assert (folder.path / "cleaned").exists()
    folder.say("go")
    for name in ids("wait", 5):
        worker.await_event("done", id=name, attempt=1)
    assert folder.runs == {**dict.fromkeys(ids("wait", 5), 1), "overrun": 3}


@pytest.mark.parametrize(("queue", "task"), [(waiting, "waiting.soft"), (threads, "threads.soft")])
def test_the_soft_limit_raises_inside(workers: Workers, folder: Folder, queue: WorkQueue, task: str) -> None:
    """As in a plain task."""
    folder.publish(queue, task, "soft")
    worker = start(workers, queue, "--threads", "10")

    buried = worker.await_event("bury", id="soft", attempt=3)
    assert buried["error"] == "SoftTimeLimitExceeded: the task overran its soft time limit"


def test_a_thread_that_stays_in_c_costs_its_process(workers: Workers, folder: Folder) -> None:
    """No exception reaches it, so its process is killed, and it is known for whom."""
    folder.publish(threads, "threads.wait", *ids("wait", 3))
    worker = start(workers, threads, "--threads", "10")
    folder.await_begun(3)
    folder.publish(threads, "threads.hold", "hold")
    worker.await_event("a child process died (exit status -9, time limit) of one task, with 3 others begun")
    folder.say("go")

    for name in ids("wait", 3):
        worker.await_event("done", id=name, attempt=1)
    worker.await_event("bury", id="hold", attempt=3)


def test_whose_a_line_is(workers: Workers, folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    """What a task prints stays together, what it logs names it, in threads that it starts as well."""
    folder.publish(waiting, "waiting.say", *ids("say", 3), word="this is")
    worker = start(workers, waiting)
    folder.await_begun(3)
    folder.say("go")
    for name in ids("say", 3):
        worker.await_event("done", id=name)
        assert worker.find("in a thread", id=name, task="waiting.say")
        assert worker.find("in the loop", id=name, task="waiting.say")
    assert worker.stop() == 0

    said = sorted(capfd.readouterr().out.splitlines())
    assert said == [f"this is {name} {name} again and that is all" for name in ids("say", 3)]


def test_nothing_stays_behind_in_the_loop(workers: Workers, folder: Folder) -> None:
    """What a task has started and not awaited is cancelled when it ends, and not before."""
    folder.publish(waiting, "waiting.leave", "leave")
    worker = start(workers, waiting)

    worker.await_event("done", id="leave")
    await_value((folder.path / "ended").exists, "the end of what it left")


def test_a_loop_in_the_loop_is_an_error_that_names_the_task(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """And says what to do instead."""
    vhost.publish_task(Route.direct("waiting"), "waiting.run", "run")
    worker = start(workers, waiting)

    error = worker.await_event("retry", id="run")["error"]
    assert "task 'waiting.run' is async def and runs in a loop already; await it there instead" in error


def test_who_cancels_all_others_costs_them_an_attempt(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Of those that have begun each fails, and is told so; the process, and what it does beside, goes on."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 3))
    worker = start(workers, waiting)
    (process,) = folder.await_begun(3)
    vhost.publish_task(Route.direct("waiting"), "waiting.cancel_all", "cancel")
    for name in ids("wait", 3):
        assert worker.await_event("retry", id=name)["error"].startswith("CancelledError")
    folder.say("go")

    for name in ids("wait", 3):
        worker.await_event("done", id=name, attempt=2)
    assert {of for _, _, of in folder.began} == {process}


def test_leaving_a_program_in_the_loop_fails_that_attempt_only(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Though such an exception goes through every loop."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 3))
    worker = start(workers, waiting)
    folder.await_begun(3)
    vhost.publish_task(Route.direct("waiting"), "waiting.exit", "exit")
    assert worker.await_event("retry", id="exit")["error"] == "SystemExit: leaving"
    folder.say("go")

    for name in ids("wait", 3):
        worker.await_event("done", id=name, attempt=1)
    assert folder.runs == dict.fromkeys(ids("wait", 3), 1)


def test_a_copy_of_the_process_runs_nothing(workers: Workers, folder: Folder) -> None:
    """A task that forks is left by its copy, which ends there."""
    folder.publish(waiting, "waiting.fork", "fork")
    folder.publish(waiting, "waiting.brief", *ids("brief", 10))
    worker = start(workers, waiting)
    for name in ("fork", *ids("brief", 10)):
        worker.await_event("done", id=name)

    assert folder.runs == dict.fromkeys(("fork", *ids("brief", 10)), 1)


def test_a_plain_task_that_comes_to_waiting_ones_runs_alone(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """It was sent to a queue that is not its own, and must not hold up those that wait there."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 3))
    worker = start(workers, waiting)
    (process,) = folder.await_begun(3)
    folder.publish(waiting, "mixed.compute", "compute")
    folder.await_begun(4)
    folder.publish(waiting, "waiting.brief", "brief")

    worker.await_event("done", id="brief")
    folder.say("go")
    worker.await_event("done", id="compute", attempt=1)
    assert {task: of for task, _, of in folder.began}["compute"] != process


@pytest.mark.parametrize(("queue", "task"), [(waiting, "waiting.brief"), (jobs, "jobs.write")])
def test_a_child_is_replaced_after_so_many_tasks(
    vhost: Vhost, workers: Workers, folder: Folder, queue: WorkQueue, task: str
) -> None:
    """None runs more, none is lost, and none runs twice."""
    vhost.declare(jobs)
    began = folder.path / "began"
    for name in ids("task", 100):
        kwargs = {"path": str(began)} if queue is jobs else {"folder": str(folder.path)}
        vhost.publish_task(Route.direct(queue.name), task, name, **kwargs)
    options = ("--processes", "2", "--tasks-per-child", "7")
    worker = workers.start(*options, "--until-empty", queue=queue.name, tasks=[JOBS, "tests.broker.jobs"])

    assert worker.wait() == 0
    assert folder.runs == dict.fromkeys(ids("task", 100), 1)
    assert max(Counter(process for _, _, process in folder.began).values()) <= 7
    assert not worker.find("an idle child process died")
    assert vhost.counts(queue) == {}


def test_a_child_that_holds_too_much_is_replaced(workers: Workers, folder: Folder) -> None:
    """After what it runs has ended, by one that is there already."""
    text = (
        "from tests.broker.waiting_jobs import *\nkept = []\n"
        "@task('waiting.eat', queue=waiting)\nasync def eat(folder):\n    note(folder)\n"
        "    kept.append(b'x' * 200_000_000)\n    await until_exists(Path(folder) / 'go')\n"
    )
    folder.publish(waiting, "waiting.eat", "eat")
    worker = workers.start_with(text, "--processes", "1", "--memory-per-child", "150M", queue="waiting")
    (process,) = folder.await_begun(1)
    folder.publish(waiting, "waiting.brief", "first")  # it is looked at when one has ended
    worker.await_event("done", id="first")

    def is_replaced() -> bool:
        count = len(folder.began)
        folder.publish(waiting, "waiting.brief", "next")
        await_value(lambda: len(folder.began) > count, "a run")
        return folder.began[-1][2] != process

    await_value(is_replaced, "another process")
    assert not worker.find("done", id="eat")
    folder.say("go")
    worker.await_event("done", id="eat", attempt=1)
    await_value(lambda: not Path(f"/proc/{process}").exists(), "the end of the first")
    assert folder.runs["eat"] == 1


def test_stopping_lets_all_finish(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """SIGTERM waits for every task that has begun."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 20))
    worker = start(workers, waiting)
    folder.await_begun(20)
    worker.signal(signal.SIGTERM)
    worker.await_event("SIGTERM: finishing 20 running task(s)")
    folder.say("go")

    assert worker.wait() == 0
    assert len(worker.find("done")) == 20
    assert vhost.counts(waiting) == {}


def test_stopping_hands_back_what_does_not_end_in_time(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """All of it is in the queue again."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 20))
    worker = start(workers, waiting, SHUTDOWN_TIMEOUT_SECONDS="0.5")
    (process,) = folder.await_begun(20)

    assert worker.stop() == 3
    await_value(lambda: not Path(f"/proc/{process}").exists(), "the end of its child")
    await_value(lambda: vhost.counts(waiting) == {"waiting": 20}, "all of it in the queue again")


def test_two_workers_share_what_waits(workers: Workers, folder: Folder) -> None:
    """Neither takes more than can begin at once."""
    both = [start(workers, waiting, "--concurrency", "20") for _ in range(2)]
    folder.publish(waiting, "waiting.wait", *ids("wait", 50))
    folder.await_begun(40)

    assert sorted(Counter(process for _, _, process in folder.began).values()) == [20, 20]
    folder.say("go")
    await_value(lambda: sum(len(worker.find("done")) for worker in both) == 50, "the end of all")


def test_children_for_what_waits_come_with_it(workers: Workers, folder: Folder) -> None:
    """A queue that has plain tasks as well costs no further process until another kind comes."""
    worker = start(workers, mixed)
    (forkserver,) = children_of(worker.process.pid)
    assert len(await_value(lambda: children_of(forkserver), "a child")) == 1

    folder.publish(mixed, "mixed.wait", *ids("wait", 10))
    worker.await_event("done", id="wait-0")
    assert len(children_of(forkserver)) == 2


def test_an_option_for_nothing_is_told(workers: Workers, folder: Folder) -> None:
    """Threads that no task allows change nothing."""
    worker = start(workers, waiting, "--threads", "5")

    worker.await_event("--threads 5 changes nothing: no task of these queues allows threads", level="warning")


def test_what_would_run_again_too_late_is_handed_back(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """The broker waits only so long for an acknowledgement; from the queue it comes again with all its time."""
    folder.publish(waiting, "waiting.wait", *ids("wait", 30))
    worker = start(workers, waiting, CONSUMER_TIMEOUT_SECONDS="8")  # so nothing shall wait for longer than a second
    (process,) = folder.await_begun(30)
    deadline = time.monotonic() + 1  # of what was taken a second ago nothing may begin any more
    await_value(lambda: time.monotonic() > deadline, "a second")
    os.kill(process, signal.SIGKILL)
    worker.await_event("handing back 30 message(s)", queue="waiting")
    folder.say("go")

    for name in ids("wait", 30):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert vhost.counts(waiting) == {}
