"""Settings files that others may write, and keys that others may read, are warned of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leveret.topology.settings import load
from leveret.topology.settings.open_files import open_bits
from tests.certificates import Authority


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run where there is no settings file but their own."""
    monkeypatch.chdir(tmp_path)


def warnings_of(caplog: pytest.LogCaptureFixture, environment: dict[str, str]) -> list[str]:
    caplog.clear()
    load(environment)
    return [record.getMessage() for record in caplog.records if record.name == "leveret"]


def test_a_settings_file_that_others_may_write_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the command that cures it."""
    file = tmp_path / "open.toml"
    file.write_text("heartbeat_seconds = 7\n")
    file.chmod(0o646)
    named = {"LEVERET_CONFIG": str(file)}

    assert warnings_of(caplog, named) == [
        f"{file} may be written by others, who can change what this program runs; cure it: chmod go-w {file}"
    ]
    assert warnings_of(caplog, named) == []


def test_a_settings_file_of_ones_own_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Others may read it, and there may be none."""
    (tmp_path / "leveret.toml").write_text("heartbeat_seconds = 7\n")
    (tmp_path / "leveret.toml").chmod(0o644)

    assert warnings_of(caplog, {}) == []
    (tmp_path / "leveret.toml").unlink()
    assert warnings_of(caplog, {}) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_settings_file_of_another_user_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As one that somebody put into a folder that is everybody's."""
    (tmp_path / "leveret.toml").write_text("heartbeat_seconds = 7\n")
    os.chown(tmp_path / "leveret.toml", 12345, 12345)

    (said,) = warnings_of(caplog, {})
    assert said.startswith(
        "leveret.toml belongs to user 12345, who can change what this program runs; cure it: chown 0 "
    )


@pytest.mark.parametrize("in_one_file", [False, True])
def test_a_key_that_others_may_read_is_warned_of(
    in_one_file: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it has a file of its own or stands in that of the certificate."""
    certificate, key = Authority(tmp_path, "ca").issue("client")
    if in_one_file:
        certificate.write_text(certificate.read_text() + key.read_text())
        named, name, secret = {"TLS_CERT_FILE": str(certificate)}, "TLS_CERT_FILE", certificate
    else:
        named, name, secret = {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}, "TLS_KEY_FILE", key
    certificate.chmod(0o644)
    key.chmod(0o600)
    secret.chmod(0o600)

    assert warnings_of(caplog, named) == []
    secret.chmod(0o604)
    assert warnings_of(caplog, named) == [
        f"{name} {secret} holds a private key, and may be read by others; cure it: chmod go= {secret}"
    ]


@pytest.mark.parametrize(
    ("user", "group", "mode", "expected"),
    [
        (1000, 50, 0o664, 0o020),
        (1000, 50, 0o666, 0o022),
        (1000, 1000, 0o664, 0),
        (1000, 1000, 0o666, 0o002),
        (0, 50, 0o664, 0),
        (0, 0, 0o602, 0o002),
        (1000, 50, 0o644, 0),
    ],
)
def test_a_group_that_is_the_owner_or_chosen_by_root_is_not_others(
    user: int, group: int, mode: int, expected: int
) -> None:
    """A umask of 002 is usual where each user has a group, and so is a root's file for the group of a service."""

    assert open_bits(os.stat_result((0o100000 | mode, 0, 0, 1, user, group, 0, 0, 0, 0)), 0o222) == expected
