"""A run of ``outcomes sandbox``: the emulated provider on a port of its own, until Ctrl-C or SIGTERM."""

import asyncio
import secrets
import signal
import ssl
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from service.sandbox.contacts import sample_contacts
from service.sandbox.faults import Faults
from service.sandbox.options import OptionError, SandboxOptions, WebhookTarget
from service.sandbox.serving import RunningSandbox, TlsFiles, serve_sandbox


def run_sandbox(flags: dict[str, Any]) -> None:
    """Runs the command; raises click's errors for invalid flags and a busy address."""
    if flags["print_sample"] is not None:
        seed = secrets.randbits(32) if flags["seed"] is None else flags["seed"]
        click.echo(sample_contacts(flags["print_sample"], seed), nl=False)
        return
    try:
        options, faults = read_options(flags), read_faults(flags)
    except OptionError as error:
        raise click.UsageError(f"{error}.") from error
    tls = read_tls(flags["tls_cert"], flags["tls_key"])
    try:
        asyncio.run(_serve(options, faults, flags["host"], flags["port"], tls))
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {flags['host']}:{flags['port']} ({error.strerror}): give another --host or --port"
        ) from error


def read_tls(certificate: Path | None, key: Path | None) -> TlsFiles | None:
    """The files to answer over TLS with, or None; raises ``click.UsageError`` for files that cannot be used."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key go together.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise click.UsageError(
            f"--tls-cert and --tls-key cannot be used ({error.strerror}): they take a certificate and its key without "
            "a passphrase, as PEM."
        ) from error
    return TlsFiles(certificate, key)


def read_options(flags: dict[str, Any]) -> SandboxOptions:
    """The options that the command's flags ask for; raises ``OptionError`` when one is invalid."""
    start: datetime | None = flags["start"]
    others = {
        "agents": frozenset(flags["agent"]),
        "targets": _pair_targets(flags["webhook"], flags["secret"], flags["transcript"], flags["recording"]),
        "start": None if start is None else start.replace(tzinfo=UTC).timestamp(),
    }
    return SandboxOptions(**_pick(SandboxOptions, flags) | others)


def read_faults(flags: dict[str, Any]) -> Faults:
    """The faults that the command's flags ask for; raises ``OptionError`` when one is invalid."""
    return Faults(**_pick(Faults, flags))


def _pick(kind: type[SandboxOptions | Faults], flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that are named after a field."""
    return {field.name: flags[field.name] for field in fields(kind) if field.name in flags}


def _pair_targets(
    urls: Sequence[str], webhook_secrets: Sequence[str], transcript: bool, recording: bool
) -> tuple[WebhookTarget, ...]:
    """Each address with its secret; the last secret applies to all further addresses, an empty one means unsigned."""
    last = len(webhook_secrets) - 1
    return tuple(
        WebhookTarget(
            url=url,
            secret=(webhook_secrets[min(index, last)] or None) if webhook_secrets else None,
            transcript=transcript,
            recording=recording,
        )
        for index, url in enumerate(urls)
    )


async def _serve(options: SandboxOptions, faults: Faults, host: str, port: int, tls: TlsFiles | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve_sandbox(options, host=host, port=port, faults=faults, tls=tls) as running:
        click.echo(_introduce(running, tls), err=True)
        await stop.wait()
    click.echo("The sandbox has stopped.", err=True)


def _introduce(running: RunningSandbox, tls: TlsFiles | None) -> str:
    options = running.sandbox.options
    secret_names = [target.secret for target in options.targets if target.secret]
    lines = [
        f"The sandbox answers at {running.base_url} (seed {running.sandbox.seed}, {options.speed:g} times real time).",
        "Set this in the service's environment:",
        f"  FORMANT_BASE_URL={running.base_url}",
        f"  FORMANT_API_KEY={options.api_keys[0]}",
    ]
    if tls is not None:
        lines.append(f"  SSL_CERT_FILE={tls.certificate.absolute()}      (or its authority's certificate)")
    if secret_names:
        lines.append(f"  FORMANT_WEBHOOK_SECRET={','.join(dict.fromkeys(secret_names))}")
    elif options.targets:
        lines.append("  OUTCOMES_ALLOW_UNSIGNED=1      (webhooks are not signed: no --secret)")
    if not options.targets:
        lines.append("No webhooks are sent: no --webhook URL.")
    lines += [f"Webhooks go to {target.url}" for target in options.targets]
    return "\n".join([*lines, "GET /sandbox shows what really happened. Press Ctrl-C to stop."])
