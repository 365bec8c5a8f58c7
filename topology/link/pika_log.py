"""What pika and asyncio log on leveret's own threads is not passed on, as it is not in a worker.

It reaches who publishes as an error, said once. And a handler that submits what it is told holds its lock until the
publisher's thread has published: that must not wait for the same lock.
"""

from __future__ import annotations

import logging

from leveret.topology.link.daemon_thread import THREAD_NAMES


def silence() -> None:
    """Keep what is logged on these threads from every handler, for the loggers of pika that there are."""
    logging.getLogger("asyncio").addFilter(_is_wanted)
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if name.startswith("pika") and isinstance(logger, logging.Logger):
            logger.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    is_ours = (record.threadName or "").startswith(THREAD_NAMES)
    return not is_ours or (record.name == "asyncio" and record.levelno >= logging.ERROR)  # a defect of ours
