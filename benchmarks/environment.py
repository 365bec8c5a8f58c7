"""The peers' own Python environment, `.venv-bench` in the checkout: made once, each peer installed by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / ".venv-bench"
_INSTALL_TIMEOUT_SECONDS = 600.0

Say = Callable[[str], None]


class CannotInstall(Exception):
    """A peer is not there and could not be installed; the text is the installer's last line."""


def python() -> Path:
    """Return the interpreter of the environment."""
    return FOLDER / "bin" / "python"


def make(say: Say) -> None:
    """Make the environment if it is not there. Raises `CannotInstall`."""
    if python().exists():
        return
    say(f"making {FOLDER.name} …")
    _run([sys.executable, "-m", "venv", str(FOLDER)])
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")


def install(requirements: Iterable[str], say: Say) -> None:
    """Install what one peer needs, if this was not done before. Raises `CannotInstall`."""
    wanted = sorted(requirements)
    installed = FOLDER / ".installed"
    done = installed.read_text(encoding="utf-8").splitlines() if installed.exists() else []
    if all(requirement in done for requirement in wanted):
        return
    say(f"installing {' '.join(wanted)} into {FOLDER.name} …")
    _run([str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
    installed.write_text("\n".join(sorted({*done, *wanted})) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Return the version of every package in the environment."""
    listing = [str(python()), "-m", "pip", "list", "--disable-pip-version-check", "--format", "json"]
    try:
        answer = subprocess.run(listing, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return {package["name"]: package["version"] for package in json.loads(answer)}


def _run(command: list[str]) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotInstall(str(error)) from error
    if ran.returncode:
        lines = (ran.stderr or ran.stdout).strip().splitlines() or [f"exit status {ran.returncode}"]
        raise CannotInstall(lines[-1])
