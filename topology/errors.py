"""What can go wrong, said once.

LeveretError
├── SettingsError          a setting, option or file is not usable
├── TaskModuleError        a --tasks module cannot be loaded, or defines something twice
├── BrokerError            the broker cannot be used
│   ├── BrokerUnreachable      nothing answers, or it is no AMQP broker
│   ├── AccessRefused          wrong password, missing vhost, missing permission
│   └── NodeError              the project's own private node cannot start or stop
├── TopologyError          an exchange or queue is missing or cannot be declared
│   └── TopologyMismatch       it exists with other arguments (406 PRECONDITION_FAILED)
├── MessageError           a message cannot be made or read
│   ├── UnreadableMessage
│   └── MessageTooLarge
├── PublishError           the broker did not take a message
│   ├── NotRouted              no queue is bound for its routing key
│   ├── Nacked                 the broker refused it (a full queue)
│   ├── Unwritable             its route or headers cannot be written as AMQP
│   ├── BrokerBlocked          a memory or disk alarm blocks publishers
│   ├── ConfirmTimeout         the broker has not said whether it has the message
│   └── PartlySubmitted        some of many failed
├── QuestionError          what workers or a recorder were asked has no answer
│   ├── NobodyAnswers          there is nobody to ask, or nobody answers in time
│   └── QuestionRefused        it was answered by a refusal, or is too large to be asked
├── RecordError            the record of tasks cannot be opened
│   └── RecordUnavailable      it cannot be used for now; tried again, nothing is lost
└── ResultError            there is no result to be had of a followed task
    ├── TaskFailed             its last attempt has failed
    ├── TaskCancelled          somebody has cancelled it
    ├── ResultTimeout          it has not ended in the time that was given
    ├── ResultMissed           how it ended may have been told, and not to this process
    └── NotFollowed            nobody asked for it to be followed

Every message says what happened, to which object, and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class LeveretError(Exception):
    """The base of every error this project raises on purpose."""


class SettingsError(LeveretError):
    """A setting, a command line option or a settings file is not usable."""


class TaskModuleError(LeveretError):
    """A module named with --tasks cannot be loaded, or what it defines is contradictory."""


class BrokerError(LeveretError):
    """The broker cannot be used."""


class BrokerUnreachable(BrokerError):
    """Nothing answers at the broker's address, or what answers does not speak AMQP 0-9-1."""


class AccessRefused(BrokerError):
    """The broker answered, and refused the user, the virtual host or the operation."""


class NodeError(BrokerError):
    """The private RabbitMQ node of this checkout cannot be started or stopped."""


class TopologyError(LeveretError):
    """An exchange or queue is missing, or the broker refused to declare it."""


class TopologyMismatch(TopologyError):
    """An exchange or queue exists with other arguments: 406 PRECONDITION_FAILED."""


class MessageError(LeveretError):
    """A message cannot be made from what was given, or cannot be read."""


class UnreadableMessage(MessageError):
    """A message that no worker will ever be able to read; it belongs in the DLQ."""


class MessageTooLarge(MessageError):
    """A message over the size limit; refused before the broker would close the channel."""


class PublishError(LeveretError):
    """The broker did not confirm a message. `task_id` is the message it is about."""

    def __init__(self, text: str, task_id: str = "") -> None:
        super().__init__(text)
        self.task_id = task_id


class NotRouted(PublishError):
    """No queue is bound for the message's routing key; nothing was stored."""


class Nacked(PublishError):
    """The broker refused to store the message, as a full queue does."""


class Unwritable(PublishError):
    """The message's route, headers or properties cannot be written as AMQP; nothing was sent."""


class BrokerBlocked(PublishError):
    """A memory or disk alarm blocks publishers. The message may still arrive after the alarm."""


class ConfirmTimeout(PublishError):
    """No confirm came in time. The message may be stored or not; the same id may be sent again."""


class PartlySubmitted(PublishError):
    """Some of many messages failed: `failures` pairs each one's position (from 0) and its error."""

    def __init__(self, task_ids: Sequence[str], failures: Sequence[tuple[int, LeveretError]]) -> None:
        position, first = failures[0]
        super().__init__(
            f"{len(failures)} of {len(task_ids)} messages were not submitted; the first, number {position}: {first}"
        )
        self.task_ids = tuple(task_ids)
        self.failures = tuple(failures)


class QuestionError(LeveretError):
    """What workers or a recorder were asked has no answer."""


class NobodyAnswers(QuestionError):
    """There is nobody to ask, or nobody has answered in time."""


class QuestionRefused(QuestionError):
    """A question was answered by a refusal, or is too large to be asked."""


class RecordError(LeveretError):
    """The record of tasks cannot be opened: where RECORD_URL leads, or what is there, is not usable."""


class RecordUnavailable(RecordError):
    """The record cannot be used for now, as when its disk is full or its server restarts."""


class ResultError(LeveretError):
    """There is no result to be had of a task. `task_id` is the one it is about."""

    def __init__(self, text: str, task_id: str = "") -> None:
        super().__init__(text)
        self.task_id = task_id


class TaskFailed(ResultError):
    """The last attempt of a task has failed.

    `failure` has the texts type, message, traceback and fingerprint; `lies_in` is the DLQ where the message lies.
    """

    def __init__(self, text: str, task_id: str, failure: Mapping[str, str], lies_in: str) -> None:
        super().__init__(text, task_id)
        self.failure = dict(failure)
        self.lies_in = lies_in


class TaskCancelled(ResultError):
    """Somebody has cancelled the task."""


class ResultTimeout(ResultError):
    """The task has not ended in the time that was given; it goes on."""


class ResultMissed(ResultError):
    """How the task ended may have been told while this process could not be reached, and nobody has kept it."""


class NotFollowed(ResultError):
    """The task was not followed, so nobody tells this process how it ends."""
