"""Settings of any content: they are settings, or one SettingsError says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from leveret.topology.errors import SettingsError
from leveret.topology.settings import Settings, load, mask

NAMES = sorted(field.upper() for field in Settings.__dataclass_fields__)
VARIABLES = ["LEVERET_TASKS" if name == "TASKS" else name for name in NAMES]
VALUES = (
    st.text(st.characters(exclude_characters="\0"), max_size=30)
    | st.sampled_from(
        ["nan", "inf", "-1", "1e999", "9" * 5000, "amqp://[", "amqp://h:99999/", "http://[", ";", "\ud800"]
    )
    | st.from_regex(r"amqps?://[a-z@:/;%\[\]0-9]{0,20}", fullmatch=True)
)
ODD_TOML = ["[" * 2000, "= 1", "nan", "inf", "0x" + "f" * 4000, "9" * 5000, "2020-01-01", "{}", "[1]", '"', "\n"]
TOML = st.sampled_from(ODD_TOML + [f"{name.lower()} = " for name in NAMES])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
in_one_folder = hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def check(environment: dict[str, str]) -> None:
    """See that loading gives settings or the one error, with a text that can be shown."""
    try:
        found: object = load(environment)
    except SettingsError as error:
        found = error

    assert isinstance(found, (Settings, SettingsError))
    assert str(found)


@in_one_folder
@given(environment=st.dictionaries(st.sampled_from(VARIABLES), VALUES))
def test_any_environment(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of any text."""
    monkeypatch.chdir(tmp_path)
    check(environment)


@in_one_folder
@given(content=st.lists(TOML, max_size=6).map(lambda pieces: "".join(pieces).encode()) | st.binary(max_size=60))
@example(content=b"a = " + b"[" * 100_000)
@example(content=b"heartbeat_seconds = " + b"9" * 5000)
@example(content=b"heartbeat_seconds = 0x" + b"f" * 4000)
@example(content=b"publish_timeout_seconds = 0x" + b"f" * 4000)
@example(content=b"amqp_url = 0x" + b"f" * 4000)
@example(content=b"\xff")
def test_any_file(content: bytes, tmp_path: Path) -> None:
    """A settings file of any bytes."""
    file = tmp_path / "any.toml"
    file.write_bytes(content)
    check({"LEVERET_CONFIG": str(file)})


@in_one_folder
@given(
    name=st.sampled_from(NAMES),
    value=st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9)
    | st.lists(st.integers() | st.text(max_size=9), max_size=3),
)
def test_any_value_in_a_file(name: str, value: object, tmp_path: Path) -> None:
    """A value of any type for any setting."""
    file = tmp_path / "one.toml"
    file.write_text(f"{name.lower()} = {json.dumps(value)}\n")
    check({"LEVERET_CONFIG": str(file)})


@given(
    pieces=st.lists(st.sampled_from([*"@/?#%:;&[]\\ \t=", "%4", "%41", "12", "p", "://", "éß", "\udc80"]), max_size=8),
    place=st.integers(0, 8),
    path=st.sampled_from(["", "/", "/vhost", "/a%2Fb", "?heartbeat=5"]),
)
def test_a_password_is_never_another_host(pieces: list[str], place: int, path: str) -> None:
    """Whatever it is made of, it arrives as a password or the URL is refused, without showing a piece of it."""
    password = "".join([*pieces[:place], "s3cret", *pieces[place:]])
    try:
        (url,) = load({"AMQP_URL": f"amqp://user:{password}@host{path}"}).amqp_urls
    except SettingsError as error:
        assert "s3cret" not in str(error)  # noqa: PT017 - that it may be raised is the property
    else:
        assert urlsplit(url).hostname == "host"
        assert unquote(urlsplit(url).password or "") == unquote(password)
        assert "s3cret" not in mask(url)
