"""The worker's log: one line an event, on stderr, for people by default and as JSON on request."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

_LOGGER = logging.getLogger("leveret")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields: dict[str, object] = getattr(record, "fields", {})
        shown = " ".join(f"{name}={_text(value)}" for name, value in fields.items() if value not in ("", None))
        message = record.getMessage()
        if fields and not message.isprintable():
            message = " ".join(message.split())
        line = f"{moment} {record.levelname.lower():<7} [{record.process}] {message}"
        return "  ".join(part for part in (line, shown, self._trace(record)) if part)

    def _trace(self, record: logging.LogRecord) -> str:
        return "\n" + self.formatException(record.exc_info) if record.exc_info else ""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def configure(as_json: bool, level: str = "INFO") -> None:
    """Send the log of this process, and of those it forks, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # what it reports reaches us as errors, said once


def event(level: int, message: str, **fields: object) -> None:
    """Log one event with its fields."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, message, extra={"fields": fields})


def worker_name() -> str:
    """Return the name of this worker as messages and logs show it: host and process."""
    return f"{os.uname().nodename}:{os.getpid()}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if text.isprintable() and not any(character in text for character in ' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
