"""Settings: where they come from, who wins, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leveret.topology import settings
from leveret.topology.errors import SettingsError
from leveret.topology.settings import Settings, load, vhost_of


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run where there is no settings file but their own."""
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold() -> None:
    """No file and an empty environment give the defaults, and the folders of the checkout."""

    assert load({}) == Settings()
    assert Settings().data_dir == settings.CHECKOUT / "data"
    assert (settings.CHECKOUT / "topology").is_dir()


def test_the_environment_sets_every_field() -> None:
    """Each variable is the field's name in capitals, or LEVERET_ and that, and is read as the field's type."""
    environment = {
        "AMQP_URL": "amqp://rabbit:5672/",
        "MANAGEMENT_URL": "http://rabbit:15672/",
        "DATA_DIR": "/texts",
        "OUTPUT_DIR": "there",
        "MESSAGE_LIMIT_BYTES": "1000",
        "PUBLISH_TIMEOUT_SECONDS": "2.5",
        "SHUTDOWN_TIMEOUT_SECONDS": "0",
        "HEARTBEAT_SECONDS": "60",
        "CONSUMER_TIMEOUT_SECONDS": "600",
        "RECORD": "all",
        "RECORD_URL": "sqlite:///record.sqlite3",
        "RECORD_SUCCESS_SECONDS": "60",
        "RECORD_FAILURE_SECONDS": "600",
        "LEVERET_TASKS": "my_app,other.tasks",
        "LEVERET_METRICS": ":9090",
        "LEVERET_HEALTH": "[::1]:8080",
    }

    assert load(environment) == Settings(
        "amqp://rabbit:5672/",
        "http://rabbit:15672/",
        Path("/texts"),
        Path("there"),
        1000,
        2.5,
        0.0,
        60,
        consumer_timeout_seconds=600.0,
        record="all",
        record_url="sqlite:///record.sqlite3",
        record_success_seconds=60.0,
        record_failure_seconds=600.0,
        tasks=("my_app", "other.tasks"),
        metrics=":9090",
        health="[::1]:8080",
    )


def test_the_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the process's own environment is read."""
    monkeypatch.setenv("HEARTBEAT_SECONDS", "77")

    assert load().heartbeat_seconds == 77


def test_an_empty_variable_is_none() -> None:
    """A variable set to nothing, as compose files do, leaves the default."""

    assert load({"AMQP_URL": "", "HEARTBEAT_SECONDS": ""}) == Settings()


def test_keyword_beats_environment_beats_file(tmp_path: Path) -> None:
    """Each source gives what no stronger one gives."""
    (tmp_path / "leveret.toml").write_text(
        'heartbeat_seconds = 1\nmessage_limit_bytes = 1\ndata_dir = "file"\n', encoding="utf-8"
    )
    loaded = load({"HEARTBEAT_SECONDS": "2", "MESSAGE_LIMIT_BYTES": "2"}, heartbeat_seconds=3)

    assert (loaded.heartbeat_seconds, loaded.message_limit_bytes, loaded.data_dir) == (3, 2, Path("file"))


def test_the_file_can_be_named(tmp_path: Path) -> None:
    """LEVERET_CONFIG names another file, and then the one in the folder is not read."""
    (tmp_path / "leveret.toml").write_text("message_limit_bytes = 1\n", encoding="utf-8")
    (tmp_path / "other.toml").write_text("heartbeat_seconds = 7\n", encoding="utf-8")

    assert load({"LEVERET_CONFIG": str(tmp_path / "other.toml")}) == Settings(heartbeat_seconds=7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "other.toml, named by LEVERET_CONFIG, does not exist"),
        (b"heartbeat_seconds = ", "other.toml cannot be read"),
        (b"# \xff", "other.toml cannot be read"),
        (
            b'hartbeat_seconds = "7"',
            "^settings file other.toml, line 1: there is no setting 'hartbeat_seconds'; did you mean 'heartbeat_s",
        ),
        (b"zzz = 1", "there is no setting 'zzz'; known are: amqp_url, management_url, data_dir"),
        (b"[broker]\namqp_url = 'amqp://a/'", "there is no setting 'broker'"),
        (b"heartbeat_seconds = 'often'", "^settings file other.toml, line 1: heartbeat_seconds is 'often', not an int"),
        (b"heartbeat_seconds = true", "a bool does not fit"),
        (b"heartbeat_seconds = 1.5", "heartbeat_seconds is an int; a float does not fit"),
        (b"data_dir = ['a']", "a list does not fit"),
        ("heartbeat_seconds = 7".encode("utf-16"), "^settings file other.toml is UTF-16; save it as UTF-8$"),
        ("heartbeat_seconds = 7".encode("utf-16-le"), "^settings file other.toml is UTF-16; save it as UTF-8$"),
        ("heartbeat_seconds = 7".encode("utf-32"), "^settings file other.toml is UTF-32; save it as UTF-8$"),
        (bytes(100), "^settings file other.toml cannot be read: Invalid statement"),
        (b'data_dir = "a\\u0000b"', "line 1: data_dir holds a character 0, which no name and no path has"),
        (b'heartbeat_seconds = "' + b"9" * 5000 + b'"', "heartbeat_seconds is '9{99}…, not an int$"),
        (b"data_dir = 5", "data_dir is '5', not a Path"),
        (b"amqp_url = { host = 'a' }", "a dict does not fit"),
    ],
)
def test_a_bad_file_is_named(content: bytes | None, reason: str, tmp_path: Path) -> None:
    """What is wrong with a settings file is told with its name and the setting's."""
    if content is not None:
        (tmp_path / "other.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=reason):
        load({"LEVERET_CONFIG": "other.toml"})


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("# heartbeat_seconds = 1\n\n  wrong = 1\n", 3),
        ("heartbeat_seconds = 7\n'wrong' = 1\n", 2),
        ('"wrong"=1\n', 1),
        ("output_dir = 'wrong = 1'\nwrong.deeper = 1\n", 2),
        ("heartbeat_seconds = 7\n[wrong]\nheartbeat_seconds = 8\n", 2),
        ("heartbeat_seconds = 7\n\n\n[[ wrong ]]\n", 4),
    ],
)
def test_a_bad_key_is_found_in_its_line(content: str, line: int, tmp_path: Path) -> None:
    """However it is written, it is told where it stands, and not where something only looks like it."""
    (tmp_path / "leveret.toml").write_text(content, encoding="utf-8")

    with pytest.raises(SettingsError, match=f"^settings file leveret.toml, line {line}: there is no setting 'wrong'; "):
        load({})


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    """As some editors write it."""
    (tmp_path / "leveret.toml").write_text("heartbeat_seconds = 7\n", encoding="utf-8-sig")

    assert load({}).heartbeat_seconds == 7


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    """Naming a folder is an error that says so."""
    with pytest.raises(SettingsError, match=r"cannot be read: .*Is a directory"):
        load({"LEVERET_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HEARTBEAT_SECONDS", "1.5", "variable HEARTBEAT_SECONDS: heartbeat_seconds is '1.5', not an int"),
        ("HEARTBEAT_SECONDS", "0", "heartbeat_seconds is 0; it must be from 1 to 3600"),
        ("HEARTBEAT_SECONDS", "3601", "it must be from 1 to 3600"),
        ("MESSAGE_LIMIT_BYTES", "0", "it must be from 1"),
        ("MESSAGE_LIMIT_BYTES", str(2**40), "it must be from 1 to 134217728"),
        ("PUBLISH_TIMEOUT_SECONDS", "0", "it must be from 0.001"),
        ("PUBLISH_TIMEOUT_SECONDS", "nan", "publish_timeout_seconds is nan"),
        ("SHUTDOWN_TIMEOUT_SECONDS", "-1", "shutdown_timeout_seconds is -1.0"),
        ("SHUTDOWN_TIMEOUT_SECONDS", "inf", "shutdown_timeout_seconds is inf"),
        ("AMQP_URL", "localhost", "is no AMQP URL; write it as amqp://"),
        ("AMQP_URL", "http://host/", "is no AMQP URL"),
        ("AMQP_URL", "amqp:///vhost", "is no AMQP URL"),
        ("AMQP_URL", "amqp://host:0/", "has a host, port or virtual host that cannot be"),
        ("AMQP_URL", "amqp://host/a/b", "has a host, port or virtual host that cannot be"),
        ("AMQP_URL", "amqp://a..b/", "has a host, port or virtual host that cannot be"),
        ("AMQP_URL", f"amqp://{'a' * 64}.example/", "has a host, port or virtual host that cannot be"),
        ("AMQP_URL", f"amqp://host/{'v' * 256}", "names a virtual host of more than 255 bytes"),
        ("AMQP_URL", f"amqp://host/{'%C3%A9' * 128}", "names a virtual host of more than 255 bytes"),
        ("AMQP_URL", "amqp://host/\udc80", "is no URL; write it as"),
        ("AMQP_URL", "amqp://user@host/", "'amqp://\\*\\*\\*@host/' has no password before the @; write it as"),
        ("AMQP_URL", "amqp://user:@host/", "has no password before the @"),
        ("AMQP_URL", "amqp://:pw@host/", "has no user before the @"),
        ("AMQP_URL", "amqp://@host/", "has no user before the @"),
        ("AMQP_URL", "amqp://host:99999/", "host:99999/' is no URL; write it as"),
        ("AMQP_URL", "amqp://[::1/", "is no URL; write it as"),
        ("AMQP_URL", " amqps://a:b@c/;amqps://a:b@d/", r"' amqps://a:\*\*\*@c/' is no AMQP URL; write it as"),
        ("AMQP_URL", "amqp://a:%ff@c/", r"'amqp://a:\*\*\*@c/' is no URL; write it as"),
        ("AMQP_URL", "amqp://host/%ff", "is no URL; write it as"),
        ("AMQP_URL", "amqp://host/;", "'amqp://host/;.*' has a ; after which no URL begins; write .*%3B"),
        ("AMQP_URL", "amqp://host/; amqp://other/", "has a ; after which no URL begins"),
        ("AMQP_URL", "amqp://host/;http://other/", "'http://other/' is no AMQP URL"),
        ("AMQP_URL", "amqps://host/?ssl_options={'protocol':2}", "carries ssl_options; set TLS_CA_FILE, TLS_CERT_FILE"),
        ("AMQP_URL", "amqp://user:p@ss/w#r%d@host/", "host: write '#' as %23, '%' as %25, '/' as %2F, each @ but"),
        ("AMQP_URL", "amqp://user:p@ss/w:rd%#?&@host/", "'#' as %23, '%' as %25, '/' as %2F, '[?]' as %3F, each @"),
        ("AMQP_URL", "amqp://user:a/b@host/", "write '/' as %2F$"),
        ("AMQP_URL", "amqp://user:12?b@host/", "write '[?]' as %3F$"),
        ("AMQP_URL", "amqp://user:pw@host/a@b", "write '/' as %2F, each @ but the one before the host as %40$"),
        (
            "AMQP_URL",
            "amqp://user:p@ss@host/",
            r"'amqp://user:\*\*\*@host/' .* write each @ but the one before the host as %40$",
        ),
        ("AMQP_URL", "amqp://us@er:pw@host/", "write each @ but the one before the host as %40"),
        ("AMQP_URL", "amqp://a:b@one/;amqp://user:p@ss@two/", "write each @ but the one before the host as %40"),
        ("AMQP_URL", "amqp://host/?heartbeat=5#end", "write '#' as %23"),
        ("AMQP_URL", "amqp://user:[a]@host/", r"write '\[' as %5B, '\]' as %5D"),
        ("AMQP_URL", "amqp://user:100%@host/", "write '%' as %25"),
        ("AMQP_URL", "amqp://user:%4@host/", "write '%' as %25"),
        ("AMQP_URL", "amqp://host/50%", "write '%' as %25"),
        ("AMQP_URL", "amqp://user:a b@host/", "write ' ' as %20"),
        ("AMQP_URL", "amqp://user:a\tb@host/", r"write '\\t' as %09"),
        ("AMQP_URL", "amqp://host/\r", r"write '\\r' as %0D"),
        ("AMQP_URL", "amqp://a/;amqp://user:p#w@b/", "write '#' as %23"),
        (
            "AMQP_URL",
            "amqps://a/;amqp://b/",
            "'amqps://a/;amqp://b/' mixes amqps:// with amqp://, .*; write amqps:// for",
        ),
        ("AMQP_URL", "amqp://a/;AMQPS://b/", "mixes amqps:// with amqp://"),
        ("MANAGEMENT_URL", "http://user:p@ss/w@host/", "^MANAGEMENT_URL .* write '/' as %2F, each @"),
        (
            "MANAGEMENT_URL",
            "http://user:p@ss@host/",
            "^MANAGEMENT_URL .* write each @ but the one before the host as %40",
        ),
        ("MANAGEMENT_URL", "http://user@host/", "has a user or a password alone before the @; write both, or neither"),
        ("MANAGEMENT_URL", "http://user:@host/", "alone before the @"),
        ("MANAGEMENT_URL", "host:15672", "MANAGEMENT_URL 'host:15672' is no URL; write it as http://host:15672/"),
        ("MANAGEMENT_URL", "amqp://host/", "is no URL"),
        ("MANAGEMENT_URL", "http://[::1/", "is no URL"),
        ("MANAGEMENT_URL", " http://host/", "is no URL"),
        ("MANAGEMENT_URL", "http://a:%ff@host/", "is no URL"),
        ("MANAGEMENT_URL", "http://a..b/", "'http://a..b/' is no URL"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, reason: str) -> None:
    """A value that cannot be used is told with its setting and the range or form it should have."""
    with pytest.raises(SettingsError, match=reason):
        load({name: value})


@pytest.mark.parametrize(
    "url",
    [
        "amqp://host",
        "amqps://user:pw@host:5671/%2F",
        "AMQPS://host/;amqps://other/",
        "amqp://user%40corp:%2F%3F%23%25p:w&@host/a%20b?heartbeat=5",
        "amqp://user:p%40ss@host/",
        "amqp://[::1]:5672/",
        "amqp://[fe80::1%25eth0]/",
        "amqp://a/;amqp://b/x",
        f"amqp://{'a' * 63}.under_score.bücher.example./{'v' * 255}",
    ],
)
def test_a_good_url_is_kept(url: str) -> None:
    """TLS, IPv6, several brokers and virtual hosts are fine."""

    assert load({"AMQP_URL": url}).amqp_url == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://host", "/"),
        ("amqp://host/", "/"),
        ("amqp://host/%2F", "/"),
        ("amqp://host/team", "team"),
        ("amqp://host/a%2Fb?heartbeat=5", "a/b"),
    ],
)
def test_the_virtual_host_is_read_off_the_url(url: str, expected: str) -> None:
    """No path is the default virtual host, and names are unquoted."""

    assert vhost_of(url) == expected


def test_an_unknown_keyword_is_the_callers_mistake() -> None:
    """A keyword that is no setting fails like any wrong call."""
    wrong: dict[str, Any] = {"hartbeat_seconds": 5}

    with pytest.raises(TypeError, match="hartbeat_seconds"):
        load({}, **wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my_app", ("my_app",)),
        ("my_app,other.tasks", ("my_app", "other.tasks")),
        (" my_app , , other ,", ("my_app", "other")),
        (",", ()),
        ("", ()),
    ],
)
def test_tasks_of_the_environment_are_separated_by_commas(text: str, expected: tuple[str, ...]) -> None:
    """Spaces around them and commas with nothing between do no harm."""

    assert load({"LEVERET_TASKS": text}).tasks == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('["my_app", "other.tasks"]', ("my_app", "other.tasks")),
        ('[ " my_app ", "" ]', ("my_app",)),
        ("[]", ()),
        ('"my_app"', ("my_app",)),
        ('"my_app, other"', ("my_app", "other")),
    ],
)
def test_tasks_of_the_file_are_a_list_or_a_text(written: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    """A single module needs no list, and the text that a variable takes is taken, too."""
    (tmp_path / "leveret.toml").write_text(f"tasks = {written}\n", encoding="utf-8")

    assert load({}).tasks == expected
    assert load({"LEVERET_TASKS": "mine"}).tasks == ("mine",)
    assert load({"LEVERET_TASKS": "mine"}, tasks=("given",)).tasks == ("given",)


@pytest.mark.parametrize("written", ["5", "true", "1.5", "[5]", '["my_app", 5]', "[[1]]", "{ a = 1 }", "2026-11-28"])
def test_tasks_that_are_no_names_are_refused(written: str, tmp_path: Path) -> None:
    """With file, line and key, and what to write instead."""
    (tmp_path / "leveret.toml").write_text(f"heartbeat_seconds = 7\ntasks = {written}\n", encoding="utf-8")
    reason = r'tasks is a list of names, as in tasks = \["my_app"\]; .* does not fit'

    with pytest.raises(SettingsError, match=f"^settings file leveret.toml, line 2: {reason}$"):
        load({})


def test_a_variable_named_tasks_is_anybodys() -> None:
    """Only LEVERET_TASKS counts."""

    assert load({"TASKS": "theirs", "tasks": "theirs"}) == Settings()


def test_the_settings_of_the_process_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that asks for them with each message costs no file each time; a mistake is found each time."""
    settings.current.cache_clear()
    try:
        monkeypatch.setenv("HEARTBEAT_SECONDS", "often")
        for _ in range(2):
            with pytest.raises(SettingsError, match="variable HEARTBEAT_SECONDS: heartbeat_seconds is 'often'"):
                settings.current()
        monkeypatch.setenv("HEARTBEAT_SECONDS", "77")
        first = settings.current()
        monkeypatch.setenv("HEARTBEAT_SECONDS", "78")

        assert first.heartbeat_seconds == 77
        assert settings.current() is first
    finally:
        settings.current.cache_clear()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://db/x", "of no kind that is known"),
        ("record.sqlite3", "of no kind that is known"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a?mode=memory", "names no file"),
        ("postgresql://me:secret@db", "names no database"),
        ("postgresql://me:secret@db/", "names no database"),
        ("postgresql://me:secret@db:port/x", "names no database"),
        ("postgresql://me:sec/ret@db/x", "cannot stand for themselves"),
        ("postgresql://me:sec#ret@db/x", "cannot stand for themselves"),
    ],
)
def test_where_a_record_cannot_be(url: str, problem: str) -> None:
    """It is said what is wrong, and never with the password."""
    with pytest.raises(SettingsError, match=problem) as caught:
        load({"RECORD_URL": url})

    assert "RECORD_URL" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "sec/ret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["sqlite:////srv/record", "postgresql://me:p%40ss@db:5433/x", "postgresql:///x?host=/run"]
)
def test_where_a_record_can_be(url: str) -> None:
    """A file, or a database wherever libpq finds it."""
    made = load({"RECORD_URL": url})

    assert made.record_url == url
    assert "p%40ss" not in repr(made)


def test_what_is_recorded_is_one_of_three() -> None:
    """A misspelt choice is not taken for another one."""
    with pytest.raises(SettingsError, match="record is 'none'; it must be one of followed, all, off"):
        load({"RECORD": "none"})
