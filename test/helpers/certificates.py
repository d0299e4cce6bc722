"""Certificates of two authorities that do not know each other, made with openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lnq.pacs.settings import Tls


@dataclass(frozen=True)
class Certificates:
    """Of `own` certificate and authority belong together; `strangers` has those of another authority."""

    own: Tls
    strangers: Tls


def make_certificates(folder: Path) -> Certificates:
    """Make the certificates. Skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    own, strangers = (_of_authority(folder / name) for name in ("own", "strangers"))
    return Certificates(own, Tls(strangers.certificate, strangers.key, strangers.ca))


def _of_authority(folder: Path) -> Tls:
    folder.mkdir()
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-days", "2"]

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    run(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", f"/CN={folder.name} authority")
    run(*new, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=127.0.0.1")
    run("openssl", "x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-out", "node.pem")  # fmt: skip
    return Tls(folder / "node.pem", folder / "node.key", folder / "ca.pem")
