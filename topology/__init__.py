"""What producers and consumers agree on: names, exchanges, queues, messages, settings and errors."""

from topology.message import TaskMessage
from topology.names import Route
from topology.queues import WorkQueue
from topology.settings import Settings

__all__ = ["Route", "Settings", "TaskMessage", "WorkQueue"]
