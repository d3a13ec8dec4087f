"""The sandbox over TLS, as the provider is reached in production; and what is said where TLS fails."""

import asyncio
import re
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.doctor.findings import Level
from service.sandbox.options import SandboxOptions, WebhookTarget
from service.sandbox.serving import TlsFiles, serve_sandbox
from tests.certificates import make_certificate
from tests.conftest import StartService
from tests.doctor.examining import examine, find
from tests.processes import OUTCOMES, run, serve, start
from tests.provider import KEY, connect_provider, find_free_port, upload


def make_expired(folder: Path) -> TlsFiles:
    """A certificate for 127.0.0.1 that ended yesterday; openssl makes none."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "expired")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = TlsFiles(folder / "expired.pem", folder / "expired.key")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


async def test_the_command_serves_over_tls_and_the_service_uploads_to_it(tmp_path: Path, database_url: str) -> None:
    files = make_certificate(tmp_path, "sandbox", "IP:127.0.0.1")
    sandbox = await start(
        OUTCOMES, "sandbox", "--port", str(find_free_port()), "--tls-cert", str(files[0]), "--tls-key", str(files[1]),
        settings={"FORMANT_API_KEY": KEY}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert sandbox.stderr is not None
        printed = ""
        async with asyncio.timeout(30):
            while "Press Ctrl-C" not in printed:
                printed += (await sandbox.stderr.readline()).decode()
        given = dict(re.findall(r"^  ([A-Z_]+)=(\S+)", printed, re.MULTILINE))
        assert given["FORMANT_BASE_URL"].startswith("https://127.0.0.1:")
        settings = {name: given[name] for name in ("FORMANT_BASE_URL", "FORMANT_API_KEY", "SSL_CERT_FILE")}
        async with serve(OUTCOMES_DATABASE_URL=database_url, **settings) as serving:
            answer = await upload(serving.client)
            assert answer.status_code == 200, answer.text
    finally:
        sandbox.send_signal(15)
        await sandbox.wait()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("unknown", "its certificate is of an unknown authority"),
        ("misnamed", "its certificate is for another name"),
        ("expired", "its certificate has expired"),
        ("plain", "it answers without TLS"),
    ],
)
async def test_the_doctor_and_an_upload_say_why_tls_fails(
    case: str, reason: str, start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = "DNS:elsewhere.example" if case == "misnamed" else "IP:127.0.0.1"
    files = make_expired(tmp_path) if case == "expired" else TlsFiles(*make_certificate(tmp_path, case, host))
    if case != "unknown":
        monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
    options = SandboxOptions(api_keys=(KEY,))
    async with serve_sandbox(options, tls=None if case == "plain" else files) as sandbox:
        url = sandbox.base_url.replace("http://", "https://")
        (found,) = find(await examine(None, FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY), "provider.answer")
        assert (found.level, found.message) == (Level.PROBLEM, f"The provider cannot be used: {reason}")
        async with start_service(FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY) as service:
            refused = await upload(service)
    assert refused.status_code == 502
    assert f"could not be reached ({reason}: " in refused.json()["error"]["message"]


async def test_authorities_that_cannot_be_loaded_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    (found,) = find(await examine(None, FORMANT_BASE_URL="https://127.0.0.1:1", FORMANT_API_KEY=KEY), "provider.answer")
    assert (found.level, "SSL_CERT_FILE" in found.message + found.remedy) == (Level.PROBLEM, True)


async def test_webhooks_are_delivered_over_tls(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy that has the certificate, as in production."""
    files = make_certificate(tmp_path, "proxy", "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    arrived = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).startswith(b"POST /webhooks/formant"):
            arrived.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhooks/formant"
    async with (
        server,
        connect_provider(start_service, plays=True, options={"targets": (WebhookTarget(url=url, secret="s"),)}) as (
            service,
            _,
        ),
    ):
        assert (await upload(service)).status_code == 200
        async with asyncio.timeout(30):
            await arrived.wait()


async def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    one, other = (make_certificate(tmp_path, name, "IP:127.0.0.1") for name in ("one", "other"))
    alone = await run(OUTCOMES, "sandbox", "--tls-cert", str(one[0]))
    assert (alone.status, "go together" in alone.errors) == (2, True)
    mixed = await run(OUTCOMES, "sandbox", "--tls-cert", str(one[0]), "--tls-key", str(other[1]))
    assert (mixed.status, "take a certificate and its key" in mixed.errors) == (2, True)
