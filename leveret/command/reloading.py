"""Start a worker anew whenever its code changes, for development.

The worker is a process of its own. It is told to stop as anybody would tell it, so it finishes or hands back what it
has; the next one is started when it has ended.
"""

from __future__ import annotations

import ast
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from watchfiles import Change, DefaultFilter, watch

from leveret.consumers import log
from leveret.consumers.worker import signals
from leveret.topology.settings.loading import file_path

_LOOK_MILLISECONDS = 200
_EXIT_KILLED = 1


class Reloading:
    """A worker with these arguments, and what restarts it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._folder = Path.cwd()
        self._filter = _Code(self._folder / file_path(os.environ))
        self._worker: subprocess.Popen[bytes] | None = None
        self._is_told = False
        self._pending: set[Path] = set()  # what has changed since the worker was started
        self._stop = threading.Event()

    def run(self) -> int:
        """Work until told to stop; returns the exit status of the last worker."""
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what has changed is said by us
        for number in signals.stopping():
            signal.signal(number, self._on_signal)
        for changes in watch(
            self._folder,
            watch_filter=self._filter,
            stop_event=self._stop,
            rust_timeout=_LOOK_MILLISECONDS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            if self._stop.is_set():
                break
            if self._worker is None:  # now, for nothing that changes from here on is missed
                self._start()
            elif changes:
                self._pending.update(Path(path) for _, path in changes)
                self._reload()
            else:
                self._look()
        return self._end()

    def _start(self) -> None:
        for path in self._pending:
            # a compiled file is told from an older one by the second and the size alone
            Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)
        self._pending.clear()
        command = [sys.executable, "-m", "leveret", "run", *self._arguments, "--parent", str(os.getpid())]
        # a group of its own: a terminal's Ctrl-C is told once, by us
        self._worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        self._is_told = False

    def _reload(self) -> None:
        names = ", ".join(sorted(self._shown(path) for path in self._pending))
        if wrong := [f"{self._shown(path)}{said}" for path in sorted(self._pending) if (said := _error_in(path))]:
            what = "the worker goes on with the former code" if self._is_running() else "no worker runs"
            log.event(logging.ERROR, f"{'; '.join(wrong)}; {what} until that is mended")
            return
        log.event(logging.INFO, f"changed: {names}; starting anew")
        if self._worker:
            self._is_told = True
            self._worker.terminate()
            self._worker.wait()
        if not self._stop.is_set():
            self._start()

    def _look(self) -> None:
        if self._worker and not self._is_told and not self._is_running():
            self._is_told = True
            status = self._worker.returncode
            log.event(logging.WARNING, f"the worker ended with status {status}; the next change starts another")

    def _end(self) -> int:
        if not self._worker:
            return signals.EXIT_STOPPED
        status = self._worker.wait()
        return status if status >= 0 else _EXIT_KILLED

    def _is_running(self) -> bool:
        return self._worker is not None and self._worker.poll() is None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop.set()
        if self._worker:
            self._worker.send_signal(number)

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self._folder) if path.is_relative_to(self._folder) else path)


class _Code(DefaultFilter):
    """Lets modules and the settings file through, and nothing of environments or caches."""

    def __init__(self, settings_file: Path) -> None:
        super().__init__(ignore_dirs=(*DefaultFilter.ignore_dirs, "venv", "site-packages"))
        self._settings_file = settings_file

    def __call__(self, change: Change, path: str) -> bool:
        return (path.endswith(".py") or Path(path) == self._settings_file) and super().__call__(change, path)


def _error_in(path: Path) -> str:
    """Return what is wrong with a file before anything in it runs; empty when nothing is, or it is gone."""
    try:
        text = path.read_bytes()
        if path.suffix == ".py":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the worker will say it
                ast.parse(text, path)
        else:
            tomllib.loads(text.decode())
    except SyntaxError as error:
        return f":{error.lineno}: {type(error).__name__}: {error.msg}"
    except ValueError as error:  # no TOML, no UTF-8, or a NUL
        return f": {error}"
    except OSError:  # it is gone, or not to be read, which the worker says better
        return ""
    return ""
