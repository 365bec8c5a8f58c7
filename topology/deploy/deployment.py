"""What is to be deployed: the workers of a project, and what runs beside them."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leveret.topology.errors import SettingsError
from leveret.topology.queues import WorkQueue

TARGETS = ("systemd", "compose", "kubernetes")

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_LEEWAY_SECONDS = 15
_LONGEST_LABEL = 33  # with a name of 20 the most that KEDA takes, which makes a label of it and of its own prefix
_HASH_DIGITS = 6


@dataclass(frozen=True)
class Worker:
    """A worker, and the queues it takes from."""

    name: str
    queues: Sequence[WorkQueue]


@dataclass(frozen=True)
class Deployment:
    """The workers of a project, and what runs beside them.

    `name` is what all of it is called by; `modules` define the tasks of `queues`. Each queue gets a worker of its own,
    or with `together=True` all have one. A worker that is told to stop lets its tasks finish for `grace_seconds`.
    `has_schedules` adds a scheduler, `has_record` a recorder, `has_broker` a RabbitMQ to a Compose file. With
    `may_declare=False` workers need no right to declare. Kubernetes needs an `image`. systemd runs `program` in
    `folder`, by default this Python and the current folder.

    Raises `SettingsError` for a name, an image or a folder that cannot be used, and where there is no queue.
    """

    name: str
    modules: Sequence[str]
    queues: Sequence[WorkQueue]
    together: bool = False
    grace_seconds: float = 30.0
    has_schedules: bool = False
    has_record: bool = False
    has_broker: bool = False
    may_declare: bool = True
    image: str = ""
    folder: Path = field(default_factory=Path.cwd)
    program: Sequence[str] = (sys.executable, "-m", "leveret")

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"{self.name!r} cannot name a deployment: use up to 20 of a-z, 0-9 and -, with a letter first and no - "
                "last"
            )
        for module in self.modules:
            if not all(part.isidentifier() for part in module.split(".")):
                raise SettingsError(f"{module!r} is no module; write it as an import statement does")
        if self.image and not _IMAGE.fullmatch(self.image):
            raise SettingsError(f"{self.image!r} cannot name an image; write it as registry.example/my-app:1.2")
        if not self.queues:
            raise SettingsError(f"deployment {self.name!r} has no queue; name at least one")

    @property
    def workers(self) -> list[Worker]:
        """The workers. Their names are names of services, too."""
        if self.together:
            return [Worker("worker", self.queues)]
        return [Worker(label(f"worker-{queue.name}"), (queue,)) for queue in self.queues]

    @property
    def stop_seconds(self) -> int:
        """How long to wait for a worker that was told to stop, until it is killed: longer than it takes."""
        return math.ceil(self.grace_seconds) + _LEEWAY_SECONDS

    @property
    def environment(self) -> dict[str, str]:
        """What every process is told, which is no secret."""
        return {
            "LEVERET_TASKS": ",".join(self.modules),
            "SHUTDOWN_TIMEOUT_SECONDS": f"{self.grace_seconds:g}",
        }

    def run(self, queues: Sequence[str], *options: str) -> list[str]:
        """Return the command of a worker of these queues."""
        declares = () if self.may_declare else ("--no-declare",)
        return ["leveret", "run", *queues, *options, *declares, "--log-format", "json"]

    def files(self, target: str) -> dict[str, str]:
        """Return what is to be written for `systemd`, `compose` or `kubernetes`: the text of each file by its name.

        Raises `SettingsError` for another target, and for what this one cannot run.
        """
        if target not in TARGETS:
            raise SettingsError(f"there is no target {target!r} to deploy to; there are: {', '.join(TARGETS)}")
        from leveret.topology.deploy import compose, kubernetes, systemd  # which know what a deployment is

        writes: dict[str, Callable[[Deployment], dict[str, str]]]
        writes = {"systemd": systemd.write, "compose": compose.write, "kubernetes": kubernetes.write}
        return writes[target](self)


def label(name: str) -> str:
    """Return a name as a label of DNS, which Kubernetes and Compose ask for. Different names stay different."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name and len(plain) <= _LONGEST_LABEL:
        return plain
    digits = hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{plain[: _LONGEST_LABEL - _HASH_DIGITS - 1].rstrip('-')}-{digits}"
