"""The schedules of the settings file: tables as `[schedules.digest]`, each with a task and its times."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from leveret.producers.calls import check_priority, make_message, route_of
from leveret.producers.scheduling.definition import Schedule
from leveret.topology import registry
from leveret.topology.errors import LeveretError, MessageError, SettingsError
from leveret.topology.message import TaskMessage
from leveret.topology.schedules import MOST_SCHEDULES
from leveret.topology.settings.loading import SCHEDULES, read_file

_OF_WAY = ("queue", "exchange", "routing_key")
_OF_MESSAGE = ("task", "args", "kwargs", *_OF_WAY, "priority")
_OF_TIMES = ("cron", "every", "timezone", "missed", "jitter", "start", "end")


@dataclass(frozen=True)
class _OfFile(Schedule):
    """Comes and goes with the file."""

    enters: ClassVar[bool] = False


def read_schedules(
    environment: Mapping[str, str] | None = None,
) -> tuple[dict[str, Schedule], list[SettingsError]]:
    """Read the schedules of the settings file, with what is wrong with the others.

    Raises `SettingsError` for a file that cannot be read at all.
    """
    file = read_file(os.environ if environment is None else environment)
    tables = {} if file is None else file.document.get(SCHEDULES, {})
    if file is None or not tables:
        return {}, []
    where = f"settings file {file.path}"
    if not isinstance(tables, dict):
        raise SettingsError(f"{where}: schedules is no table; write [schedules.digest], and below it task and cron")
    made: dict[str, Schedule] = {}
    errors: list[SettingsError] = []
    for name, table in tables.items():
        try:
            made[name] = _make(name, table)
        except LeveretError as error:
            errors.append(SettingsError(f"{where}: {error}"))
    if len(made) > MOST_SCHEDULES:
        raise SettingsError(f"{where} has {len(made):,} schedules, more than {MOST_SCHEDULES:,}; put some together")
    return made, errors


def merge(of_modules: tuple[Schedule, ...], of_file: Mapping[str, Schedule]) -> dict[str, Schedule]:
    """Return all of them by name. Raises `SettingsError` for a name that stands in both."""
    for one in of_modules:
        if one.name in of_file:
            raise SettingsError(
                f"schedule {one.name!r} is defined twice, in the settings file and in a module; rename one of them"
            )
    return {one.name: one for one in (*of_modules, *of_file.values())}


def _make(name: str, table: Any) -> Schedule:
    try:
        if not isinstance(table, dict):
            raise SettingsError("it is no table; write task and cron, or every, below it")
        for key in table:
            if key not in (*_OF_MESSAGE, *_OF_TIMES):
                near = difflib.get_close_matches(key, (*_OF_MESSAGE, *_OF_TIMES), n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join((*_OF_MESSAGE, *_OF_TIMES))}"
                raise SettingsError(f"there is no {key!r:.60}; {hint}")
        message = _message(table)
    except LeveretError as error:
        raise SettingsError(f"schedule {name!r}: {error}") from error
    return _OfFile(name, message, **{key: table[key] for key in _OF_TIMES if key in table})


def _message(table: Mapping[str, Any]) -> TaskMessage:
    task, args, kwargs = table.get("task"), table.get("args", []), table.get("kwargs", {})
    if not isinstance(task, str) or not task:
        raise SettingsError('it names no task; write task = "mail.digest"')
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise SettingsError('args is a list and kwargs a table, as in kwargs = { to = "ops@example.org" }')
    for key in _OF_WAY:
        if not isinstance(table.get(key, ""), str):
            raise SettingsError(f"{key} is {table[key]!r:.60}, no text")
    route = route_of(task, *(table.get(key) for key in _OF_WAY))
    if route is None and registry.has_any() and registry.get(task) is None:
        near = registry.nearest(task)
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(registry.names())}"
        raise MessageError(f"no task {task!r} in the modules that are loaded; {hint}")
    priority = check_priority(table.get("priority"), task, route)
    message = make_message(task, args, kwargs, route=route, priority=priority)
    return dataclasses.replace(message, follow="record" if message.follow else False)
