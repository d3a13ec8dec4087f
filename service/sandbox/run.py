"""A run of ``outcomes sandbox``: the emulated provider on a port of its own, until Ctrl-C or SIGTERM."""

import asyncio
import secrets
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from service.sandbox.contacts import sample_contacts
from service.sandbox.faults import Faults
from service.sandbox.options import OptionError, SandboxOptions, Target
from service.sandbox.serving import RunningSandbox, serve_sandbox


def run_sandbox(flags: dict[str, Any]) -> None:
    """Does what the command's flags ask for; click tells in one line what it cannot do."""
    if flags["print_sample"] is not None:
        seed = secrets.randbits(32) if flags["seed"] is None else flags["seed"]
        click.echo(sample_contacts(flags["print_sample"], seed), nl=False)
        return
    try:
        options, faults = read_options(flags), read_faults(flags)
    except OptionError as error:
        raise click.UsageError(f"{error}.") from error
    try:
        asyncio.run(_serve(options, faults, flags["host"], flags["port"]))
    except OSError as error:
        raise click.ClickException(
            f"{flags['host']}:{flags['port']} cannot be listened on ({error.strerror}): give a free --port"
        ) from error


def read_options(flags: dict[str, Any]) -> SandboxOptions:
    """The options that the command's flags ask for; raises ``OptionError`` when they make no sense."""
    start: datetime | None = flags["start"]
    return SandboxOptions(
        api_keys=flags["api_key"],
        agents=frozenset(flags["agent"]),
        targets=_pair_targets(flags["webhook"], flags["secret"], flags["transcript"], flags["recording"]),
        seed=flags["seed"],
        first_batch_id=flags["first_batch_id"],
        start=None if start is None else start.replace(tzinfo=UTC).timestamp(),
        speed=flags["speed"],
        lines=flags["lines"],
        completed_share=flags["completed_share"],
        max_attempts=flags["max_attempts"],
        retry_seconds=flags["retry_seconds"],
        unanswered=flags["unanswered"],
        conversation_ids=flags["conversation_ids"],
        conversations_shown=flags["conversations_shown"],
        list_totals=flags["list_totals"],
        rate_limit=flags["rate_limit"],
        rate_window_real_seconds=flags["rate_window"],
        max_active_batches=flags["max_active_batches"],
        delivery_concurrency=flags["delivery_concurrency"],
        delivery_timeout_real_seconds=flags["delivery_timeout"],
    )


def read_faults(flags: dict[str, Any]) -> Faults:
    """The faults that the command's flags ask for; raises ``OptionError`` when they make no sense."""
    return Faults(
        drop=flags["drop"],
        duplicate=flags["duplicate"],
        delay=flags["delay"],
        longest_delay_seconds=flags["longest_delay"],
        reorder_seconds=flags["reorder"],
        bad_signature=flags["bad_signature"],
        api_500=flags["api_500"],
        api_429=flags["api_429"],
        ignore_offset=flags["ignore_offset"],
        always_more=flags["always_more"],
        odd_entries=flags["odd_entries"],
        outage=flags["outage"],
    )


def _pair_targets(
    urls: Sequence[str], webhook_secrets: Sequence[str], transcript: bool, recording: bool
) -> tuple[Target, ...]:
    """Each address with its secret; the last secret serves all further addresses, an empty one means unsigned."""
    last = len(webhook_secrets) - 1
    return tuple(
        Target(
            url=url,
            secret=(webhook_secrets[min(index, last)] or None) if webhook_secrets else None,
            transcript=transcript,
            recording=recording,
        )
        for index, url in enumerate(urls)
    )


async def _serve(options: SandboxOptions, faults: Faults, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve_sandbox(options, host=host, port=port, faults=faults) as running:
        click.echo(_introduce(running), err=True)
        await stop.wait()
    click.echo("The sandbox has stopped.", err=True)


def _introduce(running: RunningSandbox) -> str:
    options = running.sandbox.options
    secret_names = [target.secret for target in options.targets if target.secret]
    lines = [
        f"The sandbox answers at {running.base_url} (seed {running.sandbox.seed}, {options.speed:g} times real time).",
        "Put this into the environment of the service:",
        f"  FORMANT_BASE_URL={running.base_url}",
        f"  FORMANT_API_KEY={options.api_keys[0]}",
    ]
    if secret_names:
        lines.append(f"  FORMANT_WEBHOOK_SECRET={','.join(dict.fromkeys(secret_names))}")
    elif options.targets:
        lines.append("  OUTCOMES_ALLOW_UNSIGNED=1      (webhooks are not signed: no --secret)")
    if not options.targets:
        lines.append("No webhooks are sent: no --webhook URL.")
    lines += [f"Webhooks go to {target.url}" for target in options.targets]
    return "\n".join([*lines, "What really happened: GET /sandbox. Ctrl-C ends it."])
