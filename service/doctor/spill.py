"""The spill: whether each of its servers answers, and whether the stream keeps what it takes."""

import asyncio
from urllib.parse import urlsplit

import nats.errors

from service.counts import count
from service.doctor.findings import Finding, explain, ok, problem, warning
from service.errors import ConfigurationError
from service.settings import Settings
from service.spill.stream import Stream, find_silence

STREAM_SECONDS = 5.0


async def check_spill(settings: Settings) -> list[Finding]:
    """Whether webhooks could be kept if Postgres went away now. Stores nothing, and creates no stream."""
    if not settings.spill_url:
        return [ok("OUTCOMES_SPILL_URL is empty: webhooks are refused while Postgres is away")]
    servers = settings.spill_url.split(",")
    silences = await asyncio.gather(*map(find_silence, servers))
    silent = [
        f"{urlsplit(server).netloc.rpartition('@')[2]} {silence}"
        for server, silence in zip(servers, silences, strict=True)
        if silence
    ]
    findings = []
    if silent:
        make = warning if len(silent) <= (len(servers) - 1) // 2 else problem
        remedy = (
            "Check OUTCOMES_SPILL_URL, the network and the servers: see spill_unreachable in docs/operate/runbook.md"
        )
        findings.append(make(f"OUTCOMES_SPILL_URL: {', '.join(silent)}", remedy))
    else:
        findings.append(ok(f"{count(len(servers), 'server')} of the spill, each answers"))
    return findings if len(silent) == len(servers) else [*findings, await _check_stream(servers, settings)]


async def _check_stream(servers: list[str], settings: Settings) -> Finding:
    stream = Stream(servers, max_body_bytes=settings.max_body_bytes, allow_unsafe=settings.allow_unsafe_spill)
    try:
        async with asyncio.timeout(STREAM_SECONDS):
            unsafe = await stream.examine()
    except ConfigurationError as error:
        return explain(error)
    except (nats.errors.Error, OSError):
        remedy = "JetStream needs a majority of the servers, and must be enabled for the account: docs/operate/spill.md"
        return problem("The spill's servers answer, but their JetStream does not", remedy)
    if unsafe:
        return warning(f"OUTCOMES_ALLOW_UNSAFE_SPILL=1: the spill may lose webhooks, since {unsafe}", "Unset it")
    return ok("The spill's servers write to disk before they acknowledge, and the stream keeps what it takes")
