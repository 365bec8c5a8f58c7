"""Installed from a wheel, beside a project whose own modules are named like the folders of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from leveret.topology.settings import CHECKOUT
from tests.broker.support import Vhost

pytestmark = pytest.mark.once  # pip and the imports are what is tried

PROJECT = {
    "consumers.py": "GREETING = 'from our own consumers'\n",
    "producers/__init__.py": "NAME = 'our own producers'\n",
    "topology/__init__.py": "HEIGHT = 8848\n",
    "data/__init__.py": "PRICES = {'hare': 3}\n",
    "tests/__init__.py": "",
    "leveret.toml": 'tasks = ["shop"]\n',
    "shop.py": """
from pathlib import Path

import consumers
import producers
from data import PRICES
from leveret import WorkQueue, task
from topology import HEIGHT

shop = WorkQueue("shop")


@task("shop.sell", queue=shop)
def sell(what: str, path: str) -> None:
    Path(path).write_text(f"{what} {PRICES[what]} {consumers.GREETING} {producers.NAME} {HEIGHT}")
""",
}


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and the libraries it needs, but not this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(
        CHECKOUT,
        source,
        symlinks=True,
        ignore=lambda where, names: {
            name for name in names if name.startswith((".venv", ".git", ".rabbitmq", "build")) or name == "output"
        },
    )
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    made = folder / "env"
    venv.create(made, symlinks=True)
    python = made / "bin" / "python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    # Only the path: the .pth file there that leads to this checkout is not read.
    (site,) = made.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of somebody's own."""
    for name, text in PROJECT.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "project"


def leveret(environment: Path, project: Path, vhost: Vhost, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in the project."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DATA_DIR")}
    return subprocess.run(
        [str(environment / "bin" / "leveret"), *arguments],
        cwd=project,
        env={**variables, "AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_one_package_and_one_command_are_installed(environment: Path) -> None:
    """Nothing else of ours lies in the environment."""
    (site,) = environment.glob("lib/python*/site-packages")
    packages = {path.name for path in site.iterdir() if path.is_dir() and not path.name.endswith(".dist-info")}

    assert packages == {"leveret"}
    assert [path.name for path in (environment / "bin").iterdir() if path.name.startswith("lev")] == ["leveret"]
    assert not (site / "leveret" / "topology").is_symlink()


def test_a_project_with_the_same_names_runs_its_tasks(
    environment: Path, project: Path, vhost: Vhost, tmp_path: Path
) -> None:
    """Its modules are its own, the tasks of leveret.toml are found, and the local node's room is not missed."""
    (site,) = environment.glob("lib/python*/site-packages")
    shutil.rmtree(site / "leveret" / "topology" / "local", ignore_errors=True)
    submitted = leveret(environment, project, vhost, "submit", "shop.sell", "what=hare", f"path={tmp_path / 'sold'}")
    ran = leveret(environment, project, vhost, "run", "--until-empty")

    assert (submitted.returncode, ran.returncode) == (0, 0), (submitted.stderr, ran.stderr)
    assert (tmp_path / "sold").read_text() == "hare 3 from our own consumers our own producers 8848"
