"""The settings of the stream's servers: whether they write to disk before they acknowledge, and their largest message.

By default a NATS server writes back every two minutes, so a power failure of all servers loses what they acknowledged
last. A server describes its settings to a user who may ask for it; one request reaches all servers of a cluster.
"""

import asyncio

import msgspec
from nats.aio.client import Client

from service.errors import ConfigurationError

ANSWER_SECONDS = 1.0
ATTEMPTS = 3
"""How often nobody may answer in time before the settings are unknown: a server may be busy."""
_VARZ = "$SYS.REQ.SERVER.PING.VARZ"


class _JetStream(msgspec.Struct):
    config: dict[str, msgspec.Raw] | None = None


class _Varz(msgspec.Struct):
    server_name: str
    max_payload: int
    jetstream: _JetStream | None = None

    @property
    def writes_first(self) -> bool | None:
        """Whether it writes to disk before it acknowledges; None if it stores nothing."""
        config = None if self.jetstream is None else self.jetstream.config
        return None if config is None else bytes(config.get("sync_always", b"")) == b"true"


class _Answer(msgspec.Struct):
    data: _Varz | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode


async def check_servers(client: Client, named: int, least_payload: int, *, allow_unsafe: bool) -> str:
    """Asks the servers, so many of which are named, for their settings. Raises ConfigurationError, with the remedy, if
    one cannot take a message of ``least_payload`` bytes, or if one acknowledges before it writes to disk or nobody says
    so; with ``allow_unsafe`` it returns the latter in words instead, else nothing."""
    found = await _read_settings(client, named)
    payload = min([client.max_payload, *(each.max_payload for each in found)])
    if payload < least_payload:
        raise ConfigurationError(
            f"OUTCOMES_SPILL_URL: the servers take messages of {payload} bytes, and a webhook may need "
            f"{least_payload}: raise max_payload there, or lower OUTCOMES_MAX_BODY_BYTES"
        )
    lazy = sorted(each.server_name for each in found if each.writes_first is False)
    if not lazy and any(each.writes_first for each in found):
        return ""
    cause = f"{', '.join(lazy)} acknowledges before it writes to disk" if lazy else "it is not known whether they do"
    if not allow_unsafe:
        raise ConfigurationError(
            f"OUTCOMES_SPILL_URL: the servers must write to disk before they acknowledge, and {cause}. Set "
            "sync_interval: always in their jetstream block and let this user ask for it (see "
            "docs/operate/spill.md), or set OUTCOMES_ALLOW_UNSAFE_SPILL=1"
        )
    return cause


async def _read_settings(client: Client, named: int) -> list[_Varz]:
    """The settings of each server that answers; empty where this user may not ask."""
    found: dict[str, _Varz] = {}
    for _ in range(ATTEMPTS):
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        try:
            await client.publish(_VARZ, b"", reply=inbox)
            async with asyncio.timeout(ANSWER_SECONDS):
                while len(found) < named:
                    answer = await answers.next_msg(timeout=ANSWER_SECONDS)
                    if not answer.data:
                        return []  # nobody answers this user
                    varz = _read_answer(answer.data).data
                    if varz is not None:
                        found[varz.server_name] = varz
        except (TimeoutError, msgspec.MsgspecError):
            pass
        finally:
            await answers.unsubscribe()
        if found:
            break
    return list(found.values())
