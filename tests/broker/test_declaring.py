"""A worker declares its queues in a process of its own: what that loads, what it fails with, and whom it disturbs."""

from __future__ import annotations

import pytest

from leveret import Route
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers

SAYS_WHAT_IT_LOADED = """
@task('jobs.loaded', queue=jobs)
def loaded():
    found = {'kombu', 'amqp', 'pika'} & sys.modules.keys()
    raise Reject(' '.join(sorted(found)))
"""
IMPORTS_IN_A_THREAD = """
import importlib, threading

imports, goes_on = threading.Event(), threading.Event()
os.register_at_fork(after_in_parent=goes_on.set)

class Seen:
    def find_spec(name, path, target=None):
        if name == 'leveret.topology.apply.declare':
            goes_on.set()

def import_kombu():
    with importlib._bootstrap._ModuleLockManager('kombu'):
        imports.set()
        goes_on.wait()

sys.meta_path.insert(0, Seen)
threading.Thread(target=import_kombu, daemon=True).start()
imports.wait()
"""
"""Holds the lock for importing kombu until a process is forked, where it stays locked, or until it is declared here."""


def test_what_declaring_loads_is_in_no_other_process(vhost: Vhost, workers: Workers) -> None:
    """It would be a tenth of an idle worker's memory."""
    worker = workers.start_with(SAYS_WHAT_IT_LOADED)
    vhost.publish_task(Route.direct(jobs.name), "jobs.loaded", "the-id")

    assert worker.await_event("bury", id="the-id")["error"] == "Reject: pika"


def test_a_thread_that_imports_does_not_lock_it_out(workers: Workers) -> None:
    """Threads are missing in a forked process, and what they held is never released there."""
    worker = workers.start_with(IMPORTS_IN_A_THREAD)

    assert worker.find("consuming")


def test_a_refusal_is_told_where_a_module_has_patched_all(vhost: Vhost, workers: Workers) -> None:
    """In the words of the declaration, which waits in no way of the module's."""
    pytest.importorskip("gevent")
    with vhost.connect() as connection:
        connection.channel().queue_declare("jobs", durable=True)

    worker = workers.start_with("from gevent import monkey\nmonkey.patch_all()\nimport gevent\ngevent.sleep(0)")

    assert worker.wait() == 1
    (line,) = worker.text.splitlines()
    assert line.startswith("leveret run: queue 'jobs' exists with another x-dead-letter-exchange")


@pytest.mark.parametrize(
    ("does", "said"),
    [("os.kill(os.getpid(), 9)", ""), ("raise RuntimeError('a defect')", "RuntimeError: a defect\n")],
)
def test_a_process_that_dies_is_told(does: str, said: str, workers: Workers) -> None:
    """With what it had to say itself, and what to do next."""
    worker = workers.start_with(
        "",
        before=f"import os\ndef declare(*_):\n    {does}\nfrom leveret.topology.apply import declare as room\n"
        "room.declare = declare",
    )

    assert worker.wait() == 1
    *own, line = worker.text.splitlines(keepends=True)
    assert "the process that declares the queues died before it was done" in line
    assert "start it with --no-declare" in line
    assert "".join(own[-1:]) == said
