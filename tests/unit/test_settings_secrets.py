"""Settings keep secrets: no password is shown, in a repr, a log line or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from leveret.topology.errors import SettingsError
from leveret.topology.settings import Settings, load, mask

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run where there is no settings file but their own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", ""),
        ("amqp://host:5672/vhost", "amqp://host:5672/vhost"),
        ("amqp://s3cret@host/", "amqp://***@host/"),
        ("amqp://s3cret:@host/", "amqp://***@host/"),
        ("amqp://user:s3cret@host:5672/", "amqp://user:***@host:5672/"),
        ("amqp://:s3cret@host/", "amqp://***@host/"),
        ("amqp://user:s3@cret#s3cret", "amqp://***"),
        ("amqp://user:s3c@s3cret@host/", "amqp://user:***@host/"),
        ("amqp://user:s3c/s3cret#@host/", "amqp://user:***@host/"),
        ("amqps://a:s3cret@one/;amqp://b:s3cret@two/x", "amqps://a:***@one/;amqp://b:***@two/x"),
        ("user:s3cret@host:5672/", "***@host:5672/"),
        ("amqp://user:s3;cret@host/", "amqp://user:***@host/"),
        ("amqp://user:s3;s3c:ret@host/", "amqp://user:***@host/"),
        ("amqp://user:12;s3;cret@host/", "amqp://user:***@host/"),
        ("amqp://user:12;s3cret", "amqp://user:***;***"),
        ("amqp://user:12/s3;cret", "amqp://user:***;***"),
        ("amqp://user:x@host/;user:s3cret", "amqp://user:***@host/;***"),
        ("amqp://host:5672/;user:s3cret", "amqp://host:***;***"),
        ("amqp://user:s3;cret@one/;AMQPS://b:s3cret@two/x", "amqp://user:***@one/;AMQPS://b:***@two/x"),
        ("amqp://user:s3@one/;s3cret://x@two/", "amqp://user:***@two/"),
        ("amqp://[::1]/", "amqp://[::1]/"),
        ("amqp://[2001:db8::1]:5672/vhost", "amqp://[2001:db8::1]:5672/vhost"),
        ("amqp://[fe80::1%25eth0]:5672/", "amqp://[fe80::1%25eth0]:5672/"),
        (
            "amqp://[::1]/;amqp://user:s3cret@[::ffff:127.0.0.1]:5/",
            "amqp://[::1]/;amqp://user:***@[::ffff:127.0.0.1]:5/",
        ),
        ("amqp://[::1]:s3cret", "amqp://[::1]:***"),
        ("amqp://[user:s3cret]:5672/", "amqp://[user:***"),
        ("amqp://user:[s3cret]:5672/", "amqp://user:***"),
        ("amqp://user:s3%40cret%3B@host/", "amqp://user:***@host/"),
        ("amqp://user@host/?ssl_options={'password':'s3cret'}", "amqp://***@host/?***"),
        ("amqp://user:s3?cret@host/", "amqp://***"),
        ("amqp://user:s3cret@host/?heartbeat=5", "amqp://user:***@host/?***"),
    ],
)
def test_mask_hides_the_password_and_nothing_else(url: str, expected: str) -> None:
    """Every password becomes ***, one without a scheme before it included, while user and host stay."""

    assert mask(url) == expected


def test_repr_never_shows_a_password() -> None:
    """Settings can be logged as they are."""
    shown = repr(Settings(f"amqp://a:{SECRET}@one/;amqp://b:{SECRET}@two/", f"http://c:{SECRET}@ui/"))

    assert SECRET not in shown
    assert shown.startswith("Settings(amqp_url='amqp://a:***@one/;amqp://b:***@two/', management_url='http://c:***@")


@pytest.mark.parametrize(
    "environment",
    [
        {"AMQP_URL": f"http://user:{SECRET}@host/"},
        {"AMQP_URL": f"amqp://user:{SECRET}@host:0/"},
        {"AMQP_URL": f"amqp://user:{SECRET}@host:port/"},
        {"AMQP_URL": f"user:{SECRET}@host:5672/"},
        {"AMQP_URL": f"amqp:/user:{SECRET}@host:5672/"},
        {"AMQP_URL": f"amqp://user:{SECRET};x@host:5672/"},
        {"AMQP_URL": f"amqp://user:x;{SECRET}@host:5672/"},
        {"AMQP_URL": f"amqp://user:x;y:{SECRET}@host:5672/"},
        {"AMQP_URL": f"amqp://user:12;{SECRET};x@host:5672/"},
        {"AMQP_URL": f"amqp://user:12;{SECRET}://x@host:5672/"},
        {"AMQP_URL": f"amqp://a:b@one/;amqp://user:x;{SECRET}:y@host:5672/"},
        {"AMQP_URL": f"amqps://host/?ssl_options={{'password':'{SECRET}'}}"},
        {"AMQP_URL": f"amqp://user:{SECRET}"},
        {"AMQP_URL": f"amqp://user:x#{SECRET}@host/"},
        {"AMQP_URL": f"amqp://{SECRET}@host/"},
        {"AMQP_URL": f"amqp://{SECRET}:@host/"},
        {"AMQP_URL": f"amqp://:{SECRET}@host/"},
        {"AMQP_URL": f"amqp://user:p@{SECRET}#x"},
        {"AMQP_URL": f"amqp://user:p@{SECRET}/w#r%d@host/"},
        {"AMQP_URL": f"amqp://user:p@ss/{SECRET}:rd%#?&@host/"},
        {"AMQP_URL": f"amqp://user:12/{SECRET}@host/"},
        {"AMQP_URL": f"amqp://user:[{SECRET}@host/"},
        {"AMQP_URL": f"amqp://user:{SECRET}\n@host/"},
        {"AMQP_URL": f"amqps://a:{SECRET}@one/;amqp://b:{SECRET}@two/"},
        {"MANAGEMENT_URL": f"user:{SECRET}@host:15672"},
        {"MANAGEMENT_URL": f"http://user:{SECRET}/x@host:15672"},
        {"MANAGEMENT_URL": f"http://user:{SECRET}"},
        {"MANAGEMENT_URL": f"http://{SECRET}@host:15672"},
        {"MANAGEMENT_URL": f"http://user:x#{SECRET}@host:15672"},
        {"MANAGEMENT_URL": f"amqp://user:{SECRET}@host:15672"},
        {"LEVERET_TASKS": f"amqp://user:{SECRET}@host/"},
        {"HEARTBEAT_SECONDS": f"amqp://user:{SECRET}@host/"},
    ],
    ids=lambda environment: "=".join(*environment.items()),
)
def test_no_error_shows_a_password(environment: dict[str, str]) -> None:
    """A mistyped URL is refused without telling the password to whoever reads the log."""
    with pytest.raises(SettingsError) as caught:
        load(environment)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "line", [f'"amqp://a:{SECRET}@b" = 1', f'tasks = [5, "amqp://a:{SECRET}@b"]', f'tasks = ["amqp://a:{SECRET}@b"]']
)
def test_a_url_in_another_place_of_the_file_shows_no_password(line: str, tmp_path: Path) -> None:
    """Where it does not belong it is no less secret."""
    (tmp_path / "leveret.toml").write_text(line)
    with pytest.raises(SettingsError) as caught:
        load({})

    assert SECRET not in str(caught.value)


def test_a_file_with_a_list_of_urls_shows_no_password(tmp_path: Path) -> None:
    """The same holds for a value of a type that does not fit."""
    (tmp_path / "leveret.toml").write_text(f'amqp_url = ["amqp://a:{SECRET}@b", "amqp://a:{SECRET}@c"]')
    with pytest.raises(SettingsError, match="a list does not fit") as caught:
        load({})

    assert SECRET not in str(caught.value)
