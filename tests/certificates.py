"""Certificates: self-signed ones, and those of the usual authorities, loaded only once."""

import functools
import os
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx


def make_certificate(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """Makes a self-signed certificate; returns its path and that of its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName={host}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@functools.cache
def _load_authorities(_file: str | None, **options: Any) -> ssl.SSLContext:
    return httpx.create_ssl_context(**options)


def share_authorities() -> None:
    """Loads the certificates of all authorities once for all clients of this process; each load takes 50 ms."""
    vars(httpx._transports.default)["create_ssl_context"] = lambda **options: _load_authorities(
        os.environ.get("SSL_CERT_FILE"), **options
    )
