"""Programs that publish while they end, from threads of theirs, and from handlers of signals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, run_program
from tests.faults.proxy import Proxy

starts_threads = pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2), reason="this Python starts no thread once its main thread has ended"
)


def by_name(amqp_url: str) -> str:
    """Return the URL with a host that has to be looked up."""
    return amqp_url.replace("127.0.0.1", "localhost")


_AFTER_MAIN = """
import asyncio
import threading
from leveret import submit, submit_async

def go_on():
    threading.main_thread().join()
    print(submit("jobs.fail"), asyncio.run(submit_async("jobs.fail")), submit("jobs.fail"))

threading.Thread(target=go_on).start()
"""


@starts_threads
def test_a_thread_that_goes_on_when_the_main_thread_has_ended(vhost: Vhost) -> None:
    """It submits for the first time, in its own way and in a coroutine; the broker is found by name."""
    vhost.declare(jobs)

    ids = run_program(_AFTER_MAIN, vhost, AMQP_URL=by_name(vhost.amqp_url), PUBLISH_TIMEOUT_SECONDS="5").split()

    assert len(ids) == 3
    assert vhost.ids_in(jobs.name) == sorted(ids)


@starts_threads
def test_a_queue_that_is_first_needed_when_the_main_thread_has_ended(vhost: Vhost) -> None:
    """It is declared then, too."""
    code = f"import tests.broker.jobs\n{_AFTER_MAIN}"

    ids = run_program(code, vhost, AMQP_URL=by_name(vhost.amqp_url), PUBLISH_TIMEOUT_SECONDS="5").split()

    assert vhost.ids_in(jobs.name) == sorted(ids)


_RECONNECTING = """
import sys
import threading
from leveret import submit

print(submit("jobs.write"), flush=True)

def go_on():
    threading.main_thread().join()
    sys.stdin.readline()
    print(submit("jobs.write"))

threading.Thread(target=go_on).start()
"""


@pytest.fixture
def reconnecting(vhost: Vhost) -> Iterator[tuple[subprocess.Popen[str], Proxy]]:
    """A program whose main thread has ended after a first message, and what stands before its broker."""
    vhost.declare(jobs)
    with Proxy.before(vhost.amqp_url) as proxy:
        url = by_name(proxy.url(vhost.amqp_url))
        environment = {"AMQP_URL": url, "PUBLISH_TIMEOUT_SECONDS": "5", "PYTHONPATH": str(CHECKOUT)}
        process = subprocess.Popen(
            [sys.executable, "-c", _RECONNECTING],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield process, proxy
        process.kill()
        process.communicate()


def test_a_link_that_is_lost_when_the_main_thread_has_ended(
    vhost: Vhost, reconnecting: tuple[subprocess.Popen[str], Proxy]
) -> None:
    """Another is opened, and what goes on submits by that."""
    process, proxy = reconnecting
    assert process.stdout
    first = process.stdout.readline().strip()
    proxy.reset()
    second, _ = process.communicate("\n", timeout=60)

    assert vhost.ids_in(jobs.name) == sorted([first, second.strip()])


_FIRST_AT_EXIT = """
import atexit
from leveret import PublishError, submit

@atexit.register
def leave():
    try:
        print(submit("jobs.write"))
    except PublishError as error:
        print(error)
"""


def test_the_first_submit_at_exit(vhost: Vhost) -> None:
    """It works, or where Python starts no more threads at that point, it says so at once."""
    vhost.declare(jobs)

    said = run_program(_FIRST_AT_EXIT, vhost, AMQP_URL=by_name(vhost.amqp_url), PUBLISH_TIMEOUT_SECONDS="5").strip()

    if " " not in said:
        assert vhost.ids_in(jobs.name) == [said]
    else:
        assert sys.version_info >= (3, 12)
        assert (
            "needs a thread: can't create new thread at interpreter shutdown; in a program that ends, make it" in said
        )


_SIGNALLED = """
import random
import signal
from leveret import submit
from tests.broker import jobs  # which makes the first message declare its queue

random.seed(7)
mine, handled = [], []

def handle(*_):
    handled.append(submit("jobs.write", path="handler"))
    set_off()

def set_off():
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.01))

signal.signal(signal.SIGALRM, handle)
set_off()
while len(handled) < 300:
    mine.append(submit("jobs.write", path="main"))
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(*mine, *handled)
"""


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "first message declares"])
def test_a_signal_handler_that_submits(declared: bool, vhost: Vhost) -> None:
    """Whatever submit of the main thread it interrupts, from the first on, both arrive."""
    if declared:
        vhost.declare(jobs)

    ids = run_program(_SIGNALLED, vhost).split()

    assert len(ids) >= 300
    assert vhost.ids_in(jobs.name) == sorted(ids)


_LAST_OF_ALL = """
import atexit
atexit.register(lambda: print(submit("jobs.write")))  # so it is called after leveret has closed its publisher
from leveret import submit

print(submit("jobs.write"))
"""


def test_a_submit_after_leveret_has_closed_its_publisher(vhost: Vhost) -> None:
    """The callback that is registered first is called last; it submits by a connection of its own."""
    vhost.declare(jobs)

    ids = run_program(_LAST_OF_ALL, vhost).split()

    assert len(ids) == 2
    assert vhost.ids_in(jobs.name) == sorted(ids)


_FINALIZED = """
import os
from leveret import Publisher, PublishError, submit

class AtTheEnd:
    def __init__(self):
        self.own = Publisher()
        self.submits = (self.own.submit, submit)

    def __del__(self, PublishError=PublishError, write=os.write):
        for each in self.submits:
            try:
                each("jobs.write")
            except PublishError as error:
                write(1, f"{error}\\n".encode())
        self.own.close()

kept = AtTheEnd()
print(kept.own.submit("jobs.write"), flush=True)
"""


def test_an_object_that_submits_when_the_interpreter_is_taken_down(vhost: Vhost) -> None:
    """No thread runs any more that could publish: it is told that, and does not wait for ever."""
    vhost.declare(jobs)

    task_id, *refusals = run_program(_FINALIZED, vhost).splitlines()

    assert vhost.ids_in(jobs.name) == [task_id]
    assert len(refusals) == 2
    for refusal in refusals:
        assert "the interpreter is shutting down, and no thread can publish any more" in refusal


_LOGGED = """
import logging
from leveret import Publisher, submit

class Submitting(logging.Handler):
    def emit(self, record):
        submitted.append(submit("jobs.write", record.getMessage()))

submitted = []
logging.basicConfig(level=logging.INFO, handlers=[Submitting()])
logging.error("of the program")
with Publisher() as publisher:
    print(*submitted, publisher.submit("jobs.write"))
"""


def test_a_handler_of_logging_that_submits(vhost: Vhost) -> None:
    """It is told what the program logs, and not what publishing that would log."""
    vhost.declare(jobs)

    ids = run_program(_LOGGED, vhost).split()

    assert len(ids) == 2
    assert vhost.ids_in(jobs.name) == sorted(ids)


_FORKED = """
import os
import threading
from leveret import submit

ids = []

def go_on():
    while len(ids) < 200:
        ids.append(submit("jobs.fail"))

def fork():
    children = []
    while len(children) < 20 or not ids:
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, submit("jobs.fail").encode())
            os._exit(0)
        os.close(writing)
        children.append(reading)
    for reading in children:
        ids.append(os.read(reading, 100).decode())
        os.wait()

threads = [threading.Thread(target=target) for target in (go_on, fork, go_on)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*ids)
"""


def test_forks_while_other_threads_submit(vhost: Vhost) -> None:
    """Each child submits by a publisher of its own, whatever the others were amid, from the first submit on."""
    vhost.declare(jobs)

    ids = run_program(_FORKED, vhost).split()

    assert len(ids) >= 200
    assert vhost.ids_in(jobs.name) == sorted(ids)
