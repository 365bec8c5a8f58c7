"""Certificates for the tests, made by the openssl command, which RabbitMQ's packages bring along."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


class Authority:
    """A certificate authority; `file` is its certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        if not shutil.which("openssl") and "CI" not in os.environ:
            pytest.skip("no openssl command to make certificates with")
        self._folder = folder
        self._name = name
        self.file = folder / f"{name}.pem"
        extensions = "-addext", "keyUsage=critical,keyCertSign,cRLSign"
        self._openssl("req", "-x509", *_NEW_KEY, "-nodes", "-subj", f"/CN={name}", "-days", "2", *extensions, name=name)

    def issue(self, name: str, *hosts: str, days: int = 2, passphrase: str = "") -> tuple[Path, Path]:
        """Return the files of a certificate for these hosts and of its key; with 0 days it is over already."""
        kinds = (f"{'IP' if host[0].isdigit() else 'DNS'}:{host}" for host in hosts or (name,))
        key = ("-passout", f"pass:{passphrase}") if passphrase else ("-nodes",)
        (self._folder / "extensions").write_text(f"subjectAltName={','.join(kinds)}\nauthorityKeyIdentifier=keyid\n")
        request = self._folder / f"{name}.csr"
        self._openssl("req", *_NEW_KEY, *key, "-subj", f"/CN={name}", name=name, out=request)
        signer = ("-CA", str(self.file), "-CAkey", str(self.file.with_suffix(".key")), "-CAcreateserial")
        extensions = ("-extfile", str(self._folder / "extensions"))
        self._openssl("x509", "-req", "-in", str(request), *signer, *extensions, "-days", str(days or -1), name=name)
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _openssl(self, *arguments: str, name: str, out: Path | None = None) -> None:
        key = ("-keyout", str(self._folder / f"{name}.key")) if arguments[0] == "req" else ()
        written = str(out or self._folder / f"{name}.pem")
        subprocess.run(["openssl", *arguments, *key, "-out", written], check=True, capture_output=True)
