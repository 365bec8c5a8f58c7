"""TLS files: what cannot be used is refused at once, by name, and what is made of them always verifies."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from leveret.topology.errors import SettingsError
from leveret.topology.link.parameters import parameters
from leveret.topology.settings import Settings, load
from leveret.topology.settings.tls import TlsFiles
from tests.certificates import Authority


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, two clients of it, one with an encrypted key, and a file of something else."""
    made = tmp_path_factory.mktemp("certificates")
    authority = Authority(made, "ca")
    certificate, key = authority.issue("client")
    authority.issue("other")
    authority.issue("locked", passphrase="s3cret")
    (made / "both.pem").write_text(certificate.read_text() + key.read_text())
    (made / "junk.pem").write_text("no certificate")
    return made


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"TLS_CA_FILE": "none.pem"}, "TLS_CA_FILE '.*none.pem' cannot be read: .*No such file"),
        ({"TLS_CERT_FILE": "none.pem"}, "TLS_CERT_FILE '.*none.pem' cannot be read: .*No such file"),
        ({"TLS_CERT_FILE": "client.pem", "TLS_KEY_FILE": "none.key"}, "TLS_KEY_FILE '.*none.key' cannot be read"),
        ({"TLS_CA_FILE": "."}, "TLS_CA_FILE .* cannot be read: .*Is a directory"),
        ({"TLS_CA_FILE": "junk.pem"}, "TLS_CA_FILE '.*junk.pem' holds no certificate in PEM form"),
        ({"TLS_KEY_FILE": "client.key"}, "TLS_KEY_FILE is set without TLS_CERT_FILE"),
        ({"TLS_CERT_FILE": "client.pem"}, "without TLS_KEY_FILE both are read from TLS_CERT_FILE"),
        ({"TLS_CERT_FILE": "client.pem", "TLS_KEY_FILE": "other.key"}, "are not a certificate and its key"),
        ({"TLS_CERT_FILE": "junk.pem", "TLS_KEY_FILE": "client.key"}, "are not a certificate and its key"),
        ({"TLS_CERT_FILE": "locked.pem", "TLS_KEY_FILE": "locked.key"}, "encrypted; give one without a passphrase"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: dict[str, str], reason: str, folder: Path) -> None:
    """The settings refuse it before anything connects, and nobody is asked for a passphrase."""
    with pytest.raises(SettingsError, match=reason):
        load({name: str(folder / file) for name, file in files.items()})


@pytest.mark.parametrize("files", [("", "", ""), ("ca.pem", "client.pem", "client.key"), ("ca.pem", "both.pem", "")])
def test_certificate_and_hostname_are_always_verified(files: tuple[str, str, str], folder: Path) -> None:
    """Whatever is set, pika's context and kombu's options demand a certificate for the host of the URL."""
    paths = TlsFiles(*(str(folder / file) if file else "" for file in files))
    settings = Settings(
        "amqps://rabbit.example/", "", **{f"tls_{name}": path for name, path in paths._asdict().items()}
    )
    made = parameters(settings.amqp_url, "test", settings)
    kombu = paths.kombu_options(made.host)

    assert made.ssl_options.context.verify_mode == ssl.CERT_REQUIRED
    assert made.ssl_options.context.check_hostname
    assert made.ssl_options.server_hostname == kombu["server_hostname"] == "rabbit.example"
    assert made.port == 5671
    assert kombu["cert_reqs"] == ssl.CERT_REQUIRED
    assert kombu.get("ca_certs", "") == paths.ca_file


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated")
def test_options_hidden_in_the_url_change_nothing() -> None:
    """However its name is spelled, what pika would read as ssl_options does not weaken the verification."""
    made = parameters("amqps://host/?ssl%5Foptions={'protocol':2,'ca_path':'/'}", "test", Settings())

    assert made.ssl_options.context.verify_mode == ssl.CERT_REQUIRED
    assert made.ssl_options.context.check_hostname


def test_files_are_read_when_settings_are_loaded_and_used_not_when_they_are_made(folder: Path) -> None:
    """A value reads no files; a renewed certificate counts from the next connection on."""
    made = Settings("amqps://host/", tls_ca_file=str(folder / "late.pem"))

    with pytest.raises(SettingsError, match=r"TLS_CA_FILE '.*late.pem' cannot be read"):
        parameters(made.amqp_url, "test", made)
    (folder / "late.pem").write_bytes((folder / "ca.pem").read_bytes())
    assert parameters(made.amqp_url, "test", made).ssl_options.context.get_ca_certs()
