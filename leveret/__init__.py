"""leveret: workers for Python on RabbitMQ.

Everything that a program writes is imported from here; each name is loaded when it is used, so that what defines tasks
loads no client of RabbitMQ.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without typing, for this is loaded before Ctrl-C is looked after

if TYPE_CHECKING:
    from leveret.consumers.describing.asyncapi import asyncapi_of
    from leveret.consumers.describing.schemas import schemas_of
    from leveret.consumers.tasks.attempt import Attempt, current_attempt, current_attempts
    from leveret.consumers.tasks.batch import Batch
    from leveret.consumers.tasks.child_start import on_child_start
    from leveret.consumers.tasks.defining import task
    from leveret.consumers.tasks.errors import (
        BatchFailed,
        Cancelled,
        OutsideTask,
        Reject,
        RetryLater,
        SoftTimeLimitExceeded,
    )
    from leveret.consumers.tasks.progress import progress, track
    from leveret.consumers.tasks.task import Task
    from leveret.producers.dead.dead_letters import DeadLetters
    from leveret.producers.default import publish, submit, submit_async, submit_many
    from leveret.producers.doctor.diagnosis import doctor, doctor_async
    from leveret.producers.doctor.finding import Finding
    from leveret.producers.following.cancelling import cancel, cancel_async, pause, resume
    from leveret.producers.following.handle import Submitted, as_completed, gather, gather_async
    from leveret.producers.following.logs import LogLine, logs_of, logs_of_async
    from leveret.producers.following.record import (
        recorded,
        result_of,
        result_of_async,
        statuses,
        statuses_async,
    )
    from leveret.producers.publisher import Publisher
    from leveret.producers.run_now import run_now
    from leveret.producers.scheduling.definition import Schedule
    from leveret.topology.apply.declare import declare
    from leveret.topology.deploy.deployment import Deployment
    from leveret.topology.errors import (
        AccessRefused,
        BrokerBlocked,
        BrokerError,
        BrokerUnreachable,
        ConfirmTimeout,
        LeveretError,
        MessageError,
        MessageTooLarge,
        Nacked,
        NobodyAnswers,
        NotFollowed,
        NotRouted,
        PartlySubmitted,
        PublishError,
        QuestionError,
        QuestionRefused,
        ResultError,
        ResultMissed,
        ResultTimeout,
        SettingsError,
        TaskCancelled,
        TaskFailed,
        TaskModuleError,
        TopologyError,
        TopologyMismatch,
        Unwritable,
    )
    from leveret.topology.export.definitions import definitions_of
    from leveret.topology.export.picture import svg_of
    from leveret.topology.limits import Limit, Rate
    from leveret.topology.message.envelope import TaskMessage
    from leveret.topology.names import Route
    from leveret.topology.plan.applying import apply
    from leveret.topology.plan.planning import plan
    from leveret.topology.queues import WorkQueue
    from leveret.topology.settings.values import Settings
    from leveret.topology.status import State, Status

__all__ = [
    "AccessRefused",
    "Attempt",
    "Batch",
    "BatchFailed",
    "BrokerBlocked",
    "BrokerError",
    "BrokerUnreachable",
    "Cancelled",
    "ConfirmTimeout",
    "DeadLetters",
    "Deployment",
    "Finding",
    "LeveretError",
    "Limit",
    "LogLine",
    "MessageError",
    "MessageTooLarge",
    "Nacked",
    "NobodyAnswers",
    "NotFollowed",
    "NotRouted",
    "OutsideTask",
    "PartlySubmitted",
    "PublishError",
    "Publisher",
    "QuestionError",
    "QuestionRefused",
    "Rate",
    "Reject",
    "ResultError",
    "ResultMissed",
    "ResultTimeout",
    "RetryLater",
    "Route",
    "Schedule",
    "Settings",
    "SettingsError",
    "SoftTimeLimitExceeded",
    "State",
    "Status",
    "Submitted",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskMessage",
    "TaskModuleError",
    "TopologyError",
    "TopologyMismatch",
    "Unwritable",
    "WorkQueue",
    "apply",
    "as_completed",
    "asyncapi_of",
    "cancel",
    "cancel_async",
    "current_attempt",
    "current_attempts",
    "declare",
    "definitions_of",
    "doctor",
    "doctor_async",
    "gather",
    "gather_async",
    "logs_of",
    "logs_of_async",
    "on_child_start",
    "pause",
    "plan",
    "progress",
    "publish",
    "recorded",
    "result_of",
    "result_of_async",
    "resume",
    "run_now",
    "schemas_of",
    "statuses",
    "statuses_async",
    "submit",
    "submit_async",
    "submit_many",
    "svg_of",
    "task",
    "track",
]

_HOMES = {
    "consumers.describing.asyncapi": ("asyncapi_of",),
    "consumers.describing.schemas": ("schemas_of",),
    "consumers.tasks.attempt": ("Attempt", "current_attempt", "current_attempts"),
    "consumers.tasks.batch": ("Batch",),
    "consumers.tasks.child_start": ("on_child_start",),
    "consumers.tasks.errors": (
        "BatchFailed",
        "Cancelled",
        "OutsideTask",
        "Reject",
        "RetryLater",
        "SoftTimeLimitExceeded",
    ),
    "consumers.tasks.progress": ("progress", "track"),
    "consumers.tasks.defining": ("task",),
    "consumers.tasks.task": ("Task",),
    "producers.dead.dead_letters": ("DeadLetters",),
    "producers.default": ("publish", "submit", "submit_async", "submit_many"),
    "producers.doctor.diagnosis": ("doctor", "doctor_async"),
    "producers.doctor.finding": ("Finding",),
    "producers.following.handle": ("Submitted", "as_completed", "gather", "gather_async"),
    "producers.following.cancelling": ("cancel", "cancel_async", "pause", "resume"),
    "producers.following.logs": ("LogLine", "logs_of", "logs_of_async"),
    "producers.following.record": ("recorded", "result_of", "result_of_async", "statuses", "statuses_async"),
    "producers.publisher": ("Publisher",),
    "producers.run_now": ("run_now",),
    "producers.scheduling.definition": ("Schedule",),
    "topology.apply.declare": ("declare",),
    "topology.deploy.deployment": ("Deployment",),
    "topology.export.definitions": ("definitions_of",),
    "topology.export.picture": ("svg_of",),
    "topology.limits": ("Limit", "Rate"),
    "topology.plan.applying": ("apply",),
    "topology.plan.planning": ("plan",),
    "topology.message.envelope": ("TaskMessage",),
    "topology.names": ("Route",),
    "topology.queues": ("WorkQueue",),
    "topology.settings.values": ("Settings",),
    "topology.status": ("State", "Status"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME_OF.get(name, 'topology.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
