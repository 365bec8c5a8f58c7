"""Faults made by operators: a queue deleted under its consumers, rights withdrawn."""

from __future__ import annotations

from tests.broker.support import Worker
from tests.faults.logged import faults
from tests.faults.row import Row
from tests.faults.stage import HELD, PREFETCH, Stage

_NOTHING = {"configure": "^$", "write": "^$", "read": "^$"}
_EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def delete_queue(stage: Stage) -> None:
    """Delete the work queue under its consumer, and submit again when the worker has declared it anew."""
    worker = _delete(stage)
    worker.await_event("consuming again")
    _go_on(stage)


def replace_queue(stage: Stage) -> None:
    """Delete the work queue and declare it at once: RabbitMQ 3.10 leaves a consumer behind that gets nothing."""
    _delete(stage)
    stage.vhost.declare(faults)
    _go_on(stage)


def _delete(stage: Stage) -> Worker:
    """Delete the queue while it holds messages; those are gone by the operator's will."""
    worker = stage.worker()
    stage.submit(*stage.messages(100), stage.message("faults.work", seconds=1.0))
    stage.wait_a_moment(0.0, 0.4)
    with stage.vhost.connect() as connection:
        channel = connection.channel()
        stage.blow()
        channel.queue_delete(faults.name)
    stage.excused = stage.account().missing
    return worker


def _go_on(stage: Stage) -> None:
    with stage.load(count=100, seconds=1.0):
        pass
    stage.hit = [one.id for one in stage.account().submissions if one.seconds > stage.ended]


def see_report(stage: Stage) -> None:
    """The operator is told."""
    (worker,) = stage.started
    stage.expect(worker.find("lost the broker"), "the worker said nothing of the deleted queue")


def revoke_rights(stage: Stage) -> None:
    """Withdraw the worker's rights and close its connections; later give the rights back."""
    url = stage.undo.enter_context(stage.vhost.limited_user(**_EVERYTHING))
    user = f"{stage.vhost.name}-limited"
    path = f"permissions/{stage.vhost.name}/{user}"
    worker = stage.worker("--prefetch", str(PREFETCH), AMQP_URL=url)
    with stage.load(count=200, seconds=5.0):
        stage.wait_a_moment()
        stage.await_running()
        with stage.fault():
            if stage.random.random() < 0.5:
                stage.vhost.api("DELETE", path)
            else:
                stage.vhost.api("PUT", path, _NOTHING)
            stage.close_connections(user=user)
            worker.await_event("lost the broker")
            stage.wait_a_moment(1.0, 3.0)
            stage.vhost.api("PUT", path, _EVERYTHING)
        stage.submit(*stage.messages(20))
        worker.await_event("consuming again")


def see_clear_error(stage: Stage) -> None:
    """The worker named the missing right, and did not fill its log meanwhile."""
    (worker,) = stage.started
    complaints = [
        event["message"] for event in worker.events if event["message"].endswith("trying again until it works")
    ]
    stage.expect(complaints and all("right" in text for text in complaints), f"unclear: {complaints[:2]}")
    stage.expect(len(complaints) <= 5, f"{len(complaints)} complaints about the same")


ROWS = [
    Row(
        13,
        "queue-deleted",
        "the work queue deleted under its consumer",
        "0",
        delete_queue,
        afterwards=see_report,
    ),
    Row(
        13,
        "queue-replaced",
        "the work queue deleted and declared at once",
        "0",
        replace_queue,
        patience_seconds=90.0,
    ),
    Row(
        32,
        "rights-revoked",
        "the worker's rights withdrawn while it works, then restored",
        HELD,
        revoke_rights,
        Stage.held,
        afterwards=see_clear_error,
    ),
]
