"""TLS with the broker: the only place that decides whom to trust. The hostname is always checked.

pika and the management API take the context, kombu the same files, for it cannot be handed a context.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, NamedTuple

from leveret.topology.errors import SettingsError


class TlsFiles(NamedTuple):
    """Paths of PEM files; empty where the system's certificate authorities, or no client certificate, will do."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        """Return a context that verifies certificate and hostname. Raises `SettingsError` naming the unusable file.

        The files are read each time, so a renewed certificate is in use from the next connection on.
        """
        for name, path in zip(("TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"), self, strict=True):
            _check_readable(name, path)
        if self.key_file and not self.cert_file:
            raise SettingsError("TLS_KEY_FILE is set without TLS_CERT_FILE; name the client certificate it belongs to")
        try:
            made = ssl.create_default_context(cafile=self.ca_file or None)
        except ssl.SSLError as error:
            raise SettingsError(f"TLS_CA_FILE {self.ca_file!r} holds no certificate in PEM form: {error}") from error
        if self.cert_file:
            try:
                made.load_cert_chain(self.cert_file, self.key_file or None, password=_refuse_encrypted_key)
            except ssl.SSLError as error:
                raise SettingsError(
                    f"TLS_CERT_FILE {self.cert_file!r} and TLS_KEY_FILE {self.key_file!r} are not a certificate and "
                    f"its key in PEM form: {error}; without TLS_KEY_FILE both are read from TLS_CERT_FILE"
                ) from error
        return made

    def kombu_options(self, host: str) -> dict[str, Any]:
        """Return what `context` promises, as kombu wants to be told."""
        files = {"ca_certs": self.ca_file, "certfile": self.cert_file, "keyfile": self.key_file}
        return {
            "ssl_version": ssl.PROTOCOL_TLS_CLIENT,
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": host,
            **{name: path for name, path in files.items() if path},
        }


def explain(error: ssl.SSLError, where: str) -> str:
    """Say why TLS with the broker at `where` failed, and what to do next."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message
        if "ismatch" in reason:  # of the hostname or the IP address
            return f"the certificate of {where} is not for this host: {reason} use a name or address it was made for"
        if "expired" in reason or "not yet valid" in reason:
            return f"the certificate of {where} is not valid now: {reason}; renew it, or correct this machine's clock"
        return (
            f"the certificate of {where} is not signed by an authority trusted here: {reason}; set TLS_CA_FILE to the "
            "certificate of the authority that signed it"
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return f"{where} does not speak TLS on this port ({text}); use amqps:// with its TLS port (5671), or amqp://"
    return f"TLS with {where} failed: {text}; check the port (5671 for amqps) and its certificate"


def explain_alert(text: str, where: str) -> str:
    """Say why a broker that accepted TLS at first closed the connection before it spoke AMQP."""
    if "CERTIFICATE_REQUIRED" in text:
        return f"{where} asks for a client certificate; set TLS_CERT_FILE and TLS_KEY_FILE"
    if "ALERT" in text:
        return (
            f"{where} refused the client certificate ({text}); set TLS_CERT_FILE and TLS_KEY_FILE to one that is "
            "signed by an authority the broker trusts, and valid now"
        )
    return (
        f"{where} closed the connection after TLS ({text}); check the port, and set TLS_CERT_FILE and TLS_KEY_FILE if "
        "the broker asks for a client certificate"
    )


def _check_readable(name: str, path: str) -> None:
    if not path:
        return
    try:
        with Path(path).open("rb"):
            return
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name} {path!r} cannot be read: {error}; name a PEM file") from error


def _refuse_encrypted_key() -> str:
    """Without this OpenSSL would ask the terminal for a passphrase, and a service would wait for ever."""
    raise SettingsError(
        "the key of the TLS client certificate is encrypted; give one without a passphrase, readable only by its user "
        "(openssl pkey -in KEY -out PLAIN, chmod 600)"
    )
