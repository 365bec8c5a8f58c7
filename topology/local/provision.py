"""Bring a RabbitMQ onto a machine that has none: docker-compose.yml with Docker, or rabbitmq-server with apt-get."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from leveret.topology.errors import BrokerUnreachable
from leveret.topology.link.connection import check
from leveret.topology.link.default_broker import CHOICES, STANDARD_URL
from leveret.topology.local import node

_DOCKER_READY_SECONDS = 60.0
_DEBIAN = Path("/etc/debian_version")
_SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")

Say = Callable[[str], None]


def start_docker(say: Say) -> bool:
    """Start the project's RabbitMQ in Docker and wait for it; False where no engine answers.

    Raises `BrokerUnreachable` when Docker cannot start it.
    """
    checkout = node.home().parent
    if not (checkout / "docker-compose.yml").exists() or not shutil.which("docker"):
        return False
    try:
        if _run(["docker", "info"], timeout=30).returncode:
            return False
    except subprocess.TimeoutExpired:  # a remote engine that is switched off
        return False
    say("starting RabbitMQ with docker compose; the first time downloads its image …")
    _raise_if_failed(_run(["docker", "compose", "up", "-d", "--wait"], cwd=checkout))
    deadline = time.monotonic() + _DOCKER_READY_SECONDS
    while True:
        try:
            check(STANDARD_URL)
            return True
        except BrokerUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def install_server(say: Say) -> bool:
    """Install rabbitmq-server; see `install`."""
    return install("rabbitmq-server", say)


def install(package: str, say: Say) -> bool:
    """Install a package, without starting its service; False where this is not Debian, Ubuntu or not root.

    Raises `BrokerUnreachable` when apt-get fails.
    """
    if os.geteuid() != 0 or not _DEBIAN.exists() or not shutil.which("apt-get"):
        return False
    say(f"installing {package} with apt-get …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    with _services_kept_from_starting():
        update = _run(["apt-get", "update"], env=environment)
        install = _run(command, env=environment)
    # One repository that does not answer fails the update, yet not always the installation.
    _raise_if_failed(install, update.stdout)
    return True


@contextlib.contextmanager
def _services_kept_from_starting() -> Iterator[None]:
    """Debian starts a service as it installs it, unless policy-rc.d exits with 101. An existing one decides.

    Should this process be killed, the file that it leaves denies nothing any more.
    """
    try:
        policy = os.open(_SERVICE_POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    try:
        with os.fdopen(policy, "w") as file:
            file.write(f"#!/bin/sh\nkill -0 {os.getpid()} 2>/dev/null && exit 101\nexit 0\n")
        yield
    finally:
        _SERVICE_POLICY.unlink(missing_ok=True)


def _run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    pipes: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    return subprocess.run(command, text=True, errors="replace", check=False, **pipes, **options)


def _raise_if_failed(completed: subprocess.CompletedProcess[str], said_before: str = "") -> None:
    if completed.returncode:
        problem = f"{shlex.join(completed.args)} ended with status {completed.returncode}; {CHOICES}. It said:"
        lines = (said_before + completed.stdout).splitlines()[-20:]
        raise BrokerUnreachable("\n  ".join([problem, *lines]))
