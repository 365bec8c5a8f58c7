"""Where the record is kept: the file or the server that settings name, opened by SQLAlchemy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import event, exc

from leveret.topology.errors import RecordError
from leveret.topology.settings import Settings, mask

_DEFAULT_FOLDER = "record"
_DEFAULT_FILE = "tasks.sqlite3"
_LOCK_SECONDS = 5
_CONNECT_SECONDS = 10
WRITES = "leveret_writes"
"""The execution option of a connection whose transaction writes."""
_ADVISORY_LOCK = 7_311_206_114_420_867_113


def shown(settings: Settings) -> str:
    """Return where the record is, as an error and the log name it."""
    return mask(settings.record_url) if settings.record_url else str(default_file(settings))


def default_file(settings: Settings) -> Path:
    """Return the file of the record where RECORD_URL names none."""
    return settings.output_dir.absolute() / _DEFAULT_FOLDER / _DEFAULT_FILE


def open_engine(settings: Settings) -> sqlalchemy.Engine:
    """Return the way to the record. Raises `RecordError` when the file cannot be made, or a driver is missing."""
    if settings.record_url and not settings.record_url.startswith("sqlite:"):
        return _open_postgresql(settings)
    path = Path(settings.record_url.removeprefix("sqlite:///")) if settings.record_url else default_file(settings)
    try:
        if not settings.record_url:
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # its journal takes its mode over
    except OSError as error:
        raise RecordError(
            f"the record cannot be kept in {path}: {error.strerror}; set RECORD_URL to sqlite:///PATH, or OUTPUT_DIR"
        ) from error
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(path)), connect_args={"timeout": _LOCK_SECONDS}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin below
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # what is acknowledged afterwards outlives a power cut
    connection.execute("PRAGMA case_sensitive_like=ON")


def _begin_sqlite(connection: sqlalchemy.Connection) -> None:
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _open_postgresql(settings: Settings) -> sqlalchemy.Engine:
    url = sqlalchemy.make_url(settings.record_url).set(drivername="postgresql+psycopg")
    try:
        engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_SECONDS})
    except ModuleNotFoundError as error:
        raise RecordError(
            f"RECORD_URL {mask(settings.record_url)!r} needs psycopg, which is not installed: pip install "
            "'leveret[postgresql]'"
        ) from error
    except exc.ArgumentError as error:
        raise RecordError(f"RECORD_URL {mask(settings.record_url)!r} is not usable: {error}") from error
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: sqlalchemy.Connection) -> None:
    """Let one recorder write at a time: a row is read, advanced and written back."""
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
