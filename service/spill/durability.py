"""Whether the stream's servers write to disk before they acknowledge.

By default a NATS server writes back every two minutes, so a power failure of all servers loses what they acknowledged
last. The setting is known from the servers' own description of themselves, where the user may ask for it.
"""

import asyncio

import msgspec
import structlog
from nats.aio.client import Client

from service.errors import ConfigurationError

logger = structlog.get_logger()

ANSWER_SECONDS = 1.0
_VARZ = "$SYS.REQ.SERVER.PING.VARZ"


class _JetStream(msgspec.Struct):
    config: dict[str, msgspec.Raw] | None = None


class _Varz(msgspec.Struct):
    server_name: str
    jetstream: _JetStream | None = None


class _Answer(msgspec.Struct):
    data: _Varz | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode


async def check_durability(client: Client, servers: int, *, allow_unsafe: bool) -> None:
    """Asks the servers, so many of them, whether they write to disk before they acknowledge. Raises ConfigurationError,
    with the remedy, if one does not or nobody says so; with ``allow_unsafe`` it only logs a warning."""
    settings = await _read_settings(client, servers)
    lazy = sorted(name for name, config in settings.items() if bytes(config.get("sync_always", b"")) != b"true")
    if settings and not lazy:
        return
    cause = f"{', '.join(lazy)} acknowledges before it writes to disk" if lazy else "it is not known whether they do"
    if not allow_unsafe:
        raise ConfigurationError(
            f"OUTCOMES_SPILL_URL: the servers must write to disk before they acknowledge, and {cause}. Set "
            "sync_interval: always in their jetstream block and let this user ask for it (see "
            "docs/operate/spill.md), or set OUTCOMES_ALLOW_UNSAFE_SPILL=1"
        )
    logger.warning("spill_unsafe", setting="sync_interval", name=", ".join(lazy))


async def _read_settings(client: Client, servers: int) -> dict[str, dict[str, msgspec.Raw]]:
    """The JetStream settings of each server that answers; empty where this user may not ask."""
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    found: dict[str, dict[str, msgspec.Raw]] = {}
    try:
        await client.publish(_VARZ, b"", reply=inbox)
        async with asyncio.timeout(ANSWER_SECONDS):
            while len(found) < servers:
                answer = await answers.next_msg(timeout=ANSWER_SECONDS)
                if not answer.data:
                    break  # nobody answers this user
                varz = _read_answer(answer.data).data
                if varz is not None and varz.jetstream is not None and varz.jetstream.config is not None:
                    found[varz.server_name] = varz.jetstream.config
    except (TimeoutError, msgspec.MsgspecError):
        pass
    finally:
        await answers.unsubscribe()
    return found
