"""Schedulers as processes, with a folder of their own for the settings file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leveret.topology.schedules import fire_id
from tests.broker.support import JOBS, Started, Vhost, Worker, await_value, warm

TICK = """
[schedules.tick]
task = "jobs.write"
kwargs = { path = "/dev/null" }
queue = "jobs"
every = "1s"
missed = "all"
"""


class Schedulers(Started):
    """Starts schedulers on one virtual host and one settings file."""

    def __init__(self, vhost: Vhost, folder: Path) -> None:
        super().__init__(vhost, folder)
        self.vhost = vhost
        self.environment = {
            **{name: value for name, value in self.environment.items() if not name.startswith("LEVERET_")},
        }
        self.file = folder / "leveret.toml"
        self.write(TICK)

    def write(self, text: str) -> None:
        """Write the settings file, as an editor does it."""
        new = self.file.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.file)

    def start(self, **environment: str) -> Worker:
        """Start one, and wait until it fires."""
        started = self.launch(**environment)
        started.await_event("scheduling")
        return started

    @property
    def started(self) -> Sequence[Worker]:
        """All that were started."""
        return self._started

    def stop_all(self) -> None:
        """Have all that run leave as they should."""
        for one in self._started:
            if one.process.poll() is None:
                assert one.stop() == 0, one.text

    def start_waiting(self, tasks: str = JOBS, **environment: str) -> Worker:
        """Start one beside another that fires."""
        started = self.launch(tasks=tasks, **environment)
        started.await_event("another scheduler fires")
        return started

    def launch(self, module: str = "leveret", tasks: str = JOBS, **environment: str) -> Worker:
        """Start one, by another module if it prepares something; without tasks those that are set."""
        words = ["schedule", *_options(tasks), "--log-format", "json"]
        told = {**self.environment, **environment}
        if module == "leveret":
            return self._keep(warm().start(["leveret", *words], self.file.parent, told, stderr=subprocess.PIPE))
        return self._keep(
            subprocess.Popen(
                [sys.executable, "-m", module, *words],
                env=told,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self.file.parent,
            )
        )

    def command(self, *arguments: str, tasks: str = JOBS, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `leveret schedule …` to its end."""
        words = ["leveret", "schedule", *arguments, *_options(tasks)]
        return warm().run(words, self.file.parent, {**self.environment, **environment})

    def listed(self, tasks: str = JOBS) -> Mapping[str, Any]:
        """Return what `leveret schedule list --json` says, by name."""
        said = self.command("list", "--json", tasks=tasks)
        assert said.returncode == 0, said.stderr
        return {one["name"]: one for one in map(json.loads, said.stdout.splitlines())}

    def fired(self) -> list[dict[str, Any]]:
        """Return what all schedulers have logged as fired."""
        return [one for scheduler in self._started for one in scheduler.find("fired")]

    def await_fires(self, count: int, patience_seconds: float = 60.0) -> None:
        """Wait until so many more were fired than now."""
        before = len(self.fired())
        await_value(lambda: len(self.fired()) >= before + count, f"{count} fires", patience_seconds)


def _options(tasks: str) -> list[str]:
    return ["-a", tasks] if tasks else []


def whole_seconds(ids: set[str], schedule: str, begin: int, end: int) -> list[int]:
    """Return the seconds from one to another (of the epoch) whose fires are among these ids."""
    return [second for second in range(begin, end) if fire_id(schedule, second * 1000) in ids]
