"""The words a task may say to its worker by raising, beside plain failing."""

from __future__ import annotations


class Reject(Exception):
    """Raise it from a task when trying again cannot help: the message goes to the DLQ at once, with the reason."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task that overran its soft time limit, so that it can clean up before it is killed."""
