"""Where settings come from: the environment, which wins, and one TOML file.

The file is `leveret.toml` in the current folder, or the one that LEVERET_CONFIG names. Its keys are the fields of
`Settings`; the variables are the same in capitals, with LEVERET_ before those of `_VARIABLES`.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from leveret.topology.encoding import wide_encoding
from leveret.topology.errors import SettingsError
from leveret.topology.settings.open_files import warn_if_changeable, warn_if_readable
from leveret.topology.settings.urls import mask
from leveret.topology.settings.values import Settings

_MOST_BITS = 64
_MOST_SHOWN = 100
SCHEDULES = "schedules"
"""The table of the file that is no setting: leveret schedule reads it."""
_VARIABLES = {name: f"LEVERET_{name.upper()}" for name in ("tasks", "metrics", "health")}
"""Those that are not the field's name in capitals, which would be anybody's."""


class _Given(NamedTuple):
    name: str
    value: object
    source: str


def load(environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the settings. Keyword arguments win over the environment, which wins over the file.

    Raises `SettingsError` naming the setting and where the bad value came from.
    """
    environment = os.environ if environment is None else environment
    known = {field.name: field.default for field in fields(Settings)}
    values: dict[str, object] = {}
    for name, value, source in (*_from_file(environment), *_from_environment(environment, known)):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise SettingsError(f"{source}: there is no setting {mask(name)!r}; {hint}")
        values[name] = _convert(name, value, known[name], source)
    made = Settings(**{**values, **overrides})  # type: ignore[arg-type]
    if any(made.tls_files):
        made.tls_files.context()  # now, for a worker shall not find out when it connects again
        if key_file := made.tls_key_file or made.tls_cert_file:
            warn_if_readable("TLS_KEY_FILE" if made.tls_key_file else "TLS_CERT_FILE", key_file)
    return made


@functools.cache
def current() -> Settings:
    """Return the settings of this process, read when first asked for. Raises as `load` does."""
    return load()


class SettingsFile(NamedTuple):
    """The settings file, as it stands there now."""

    path: Path
    text: str
    document: dict[str, Any]


def file_path(environment: Mapping[str, str]) -> Path:
    """Return where the settings file is, if there is one."""
    return Path(environment.get("LEVERET_CONFIG") or "leveret.toml")


def read_file(environment: Mapping[str, str]) -> SettingsFile | None:
    """Read the settings file; None where there is none, and none is named.

    Raises `SettingsError` for one that cannot be read, or that LEVERET_CONFIG names and that is not there.
    """
    named, path = environment.get("LEVERET_CONFIG"), file_path(environment)
    try:
        text = _text_of(path)
    except FileNotFoundError as error:
        if named:
            raise SettingsError(f"settings file {path}, named by LEVERET_CONFIG, does not exist") from error
        return None
    except (OSError, ValueError) as error:  # ValueError: it is no UTF-8
        raise SettingsError(f"settings file {path} cannot be read: {error}") from error
    import tomllib  # only who has a file pays for it

    try:
        return SettingsFile(path, text, tomllib.loads(text))
    except (ValueError, RecursionError) as error:  # it is no TOML, or has a number without end
        raise SettingsError(f"settings file {path} cannot be read: {error}") from error


def _from_file(environment: Mapping[str, str]) -> Iterator[_Given]:
    if (file := read_file(environment)) is None:
        return
    for name, value in file.document.items():
        if name != SCHEDULES:
            yield _Given(name, value, f"settings file {file.path}{_line_of(name, file.text)}")


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        warn_if_changeable(str(path), file.fileno())
        content = file.read()
    if encoding := wide_encoding(content):
        raise SettingsError(f"settings file {path} is {encoding}; save it as UTF-8")
    return content.decode("utf-8-sig")


def _line_of(name: str, text: str) -> str:
    """Say in which line a key stands, where that can be seen."""
    key = re.compile(rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[].=]""")
    numbers = [number for number, line in enumerate(text.splitlines(), start=1) if key.match(line)]
    return f", line {numbers[0]}" if numbers else ""


def _from_environment(environment: Mapping[str, str], known: Mapping[str, object]) -> Iterator[_Given]:
    for name in known:
        variable = _VARIABLES.get(name, name.upper())
        if value := environment.get(variable):
            yield _Given(name, value, f"variable {variable}")


def _convert(name: str, value: object, default: Any, source: str) -> object:
    if isinstance(default, tuple):
        return _convert_names(name, value, source)
    wanted: type = Path if isinstance(default, Path) else type(default)
    article = "an" if wanted is int else "a"
    if isinstance(value, str) and "\0" in value:
        raise SettingsError(f"{source}: {name} holds a character 0, which no name and no path has")
    try:
        if isinstance(value, (dict, list, bool)) or (wanted is int and isinstance(value, float)):
            given = type(value).__name__
            raise SettingsError(f"{source}: {name} is {article} {wanted.__name__}; a {given} does not fit")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise SettingsError(f"{source}: {name} is a number of {value.bit_length():,} bits; none is that large")
        return wanted(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{source}: {name} is {_shown(value)}, not {article} {wanted.__name__}") from error


def _convert_names(name: str, value: object, source: str) -> tuple[str, ...]:
    """Take a list of names, or one text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise SettingsError(
            f'{source}: {name} is a list of names, as in {name} = ["my_app"]; {_shown(value)} does not fit'
        )
    for one in given:
        if "://" in one:
            raise SettingsError(f"{source}: {name} takes names of modules, and {_shown(one)} is a URL")
    return tuple(one.strip() for one in given if one.strip())


def _shown(value: object) -> str:
    """Return a value as an error shows it: short, and without a password, should it be the URL of another setting."""
    text = repr(mask(value if isinstance(value, str) else str(value)))
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
