"""Put a task on an exchange: submit it, or send a dead message round again."""

from producers.publisher import Publisher, publish, submit, submit_async, submit_many

__all__ = ["Publisher", "publish", "submit", "submit_async", "submit_many"]
