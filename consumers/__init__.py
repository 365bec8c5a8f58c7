"""Take, run and settle: what a task module needs to define tasks."""

from consumers.attempt import Attempt, current_attempt
from consumers.errors import Reject, SoftTimeLimitExceeded
from consumers.task import Task, task

__all__ = ["Attempt", "Reject", "SoftTimeLimitExceeded", "Task", "current_attempt", "task"]
