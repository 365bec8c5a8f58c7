"""A PostgreSQL of the tests' own: Debian's, in a temporary folder, installed where that can be done."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy

from leveret.topology.local.launch import free_ports
from leveret.topology.local.provision import install

_USER = "postgres"
"""Whom Debian makes for it; root is refused."""
_LONGEST_SECONDS = 60


def find_programs() -> Path | None:
    """Return the folder with initdb and pg_ctl, installing Debian's package where there is none; None without."""
    if found := _installed():
        return found
    return _installed() if install("postgresql", lambda said: print(said, file=sys.stderr)) else None


def _installed() -> Path | None:
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: float(one.parent.name), default=None)


class Cluster:
    """A server with a port and a password of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._folder = folder
        self._user = _USER if os.geteuid() == 0 else None
        if self._user:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        password, file = secrets.token_hex(16), folder / "password"
        file.write_text(password, encoding="utf-8")
        self._run("initdb", "--pgdata", str(self._data), "--username", "record", "--auth", "scram-sha-256",
                  "--pwfile", str(file), "--encoding", "UTF8", "--no-sync")  # fmt: skip
        (self._port,) = free_ports(1)
        self.url = f"postgresql://record:{password}@127.0.0.1:{self._port}/postgres"

    def start(self, syncs: bool = False) -> None:
        """Start it, and wait until it lets somebody in; `syncs` says whether it writes for a power cut."""
        fsync = "on" if syncs else "off"
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync={fsync}"
        self._run("pg_ctl", "start", "--pgdata", str(self._data), "--wait", "--log", str(self._folder / "log"),
                  "--options", options)  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` leaves everything as a crash would."""
        self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--wait", "--mode", mode)

    def make_database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"record_{secrets.token_hex(4)}"
        engine = sqlalchemy.create_engine(
            self.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what is started would keep a pipe open
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
        if done.returncode:
            log = self._folder / "log"
            said = done.stderr or (log.read_text(encoding="utf-8") if log.exists() else "")
            raise RuntimeError(f"{program} ended with {done.returncode}: {said[-2000:]}")


@contextlib.contextmanager
def running(programs: Path, syncs: bool = False) -> Iterator[Cluster]:
    """Run a server in a folder that is removed afterwards; see `Cluster.start`."""
    folder = Path(tempfile.mkdtemp(prefix="leveret-postgresql-"))
    try:
        cluster = Cluster(programs, folder)
        cluster.start(syncs)
        try:
            yield cluster
        finally:
            with contextlib.suppress(RuntimeError):  # a test has stopped it
                cluster.stop()
    finally:
        shutil.rmtree(folder)
