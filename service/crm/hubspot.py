"""HubSpot: ``POST /crm/v3/objects/{objectType}/batch/upsert``, as its public API reference describes it.

At most 100 inputs, each with ``id`` and ``idProperty``; 200 when all were taken, 207 with ``errors`` when some were
not, 400 for the whole batch (so also where two inputs have the same id). Every field of an error is optional. An error
names its input by ``context.objectWriteTraceId`` (which we send) or ``context.ids``; where it does not, we split.
Limits come as 429 with ``Retry-After`` or a ``policyName``, as 423, and as ``X-HubSpot-RateLimit-*`` in every answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec

from service.crm.errors import BusyError, RefusedError
from service.crm.exchange import MESSAGE_CHARACTERS, Answer, exchange, read_retry_after
from service.crm.mapping import HubSpot, Key
from service.crm.records import Record
from service.crm.targets import WHO, check_refusal

POLICY_SECONDS = {"DAILY": 600.0, "TEN_SECONDLY_ROLLING": 10.0, "SECONDLY": 1.0}
LOCKED_SECONDS = 2.0  # "a delay of at least 2 seconds" after a 423
LONGEST_INTERVAL_SECONDS = 60.0


class _Error(msgspec.Struct):
    message: str | None = None
    category: str | None = None
    context: dict[str, list[str] | str | None] | None = None

    def describe(self) -> str:
        """Why, in HubSpot's words."""
        return (
            ": ".join(part for part in (self.category, self.message) if part)[:MESSAGE_CHARACTERS] or "no reason given"
        )

    def find_keys(self, records: Sequence[Record]) -> list[str]:
        """The keys of the records that it is about; none where it does not say."""
        traces, ids = self._read("objectWriteTraceId"), self._read("ids") | self._read("id")
        return [each.key for each in records if _to_trace(each) in traces or each.key in ids]

    def _read(self, name: str) -> set[str]:
        given = (self.context or {}).get(name) or []
        return {given} if isinstance(given, str) else set(given)


class _Batch(msgspec.Struct, rename="camel"):
    status: str
    num_errors: int = 0
    errors: list[_Error] = []


class _Problem(msgspec.Struct, rename="camel"):
    policy_name: str = ""


class HubSpotTarget:
    """Upserts into objects of one type."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        target: HubSpot,
        key: Key,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._url = f"{target.url.rstrip('/')}/crm/v3/objects/{target.object_type}/batch/upsert"
        self._id_property = key.id_property
        self._sleep = sleep
        self._rest_seconds = 0.0
        self.batch_size = target.batch_size

    async def send(self, records: Sequence[Record]) -> Mapping[str, str]:
        """As ``Target.send``. Where HubSpot says that nothing more is allowed in its interval, the next call waits."""
        if self._rest_seconds:
            await self._sleep(self._rest_seconds)
            self._rest_seconds = 0.0
        body = msgspec.json.encode({"inputs": [self._to_input(record) for record in records]})
        answer = await exchange(self._http, WHO, "POST", self._url, content=body, read_wait=_read_wait)
        if answer.headers.get("x-hubspot-ratelimit-remaining") == "0":
            self._rest_seconds = _read_interval(answer)
        check_refusal(answer)
        return _read_failures(answer, records)

    def _to_input(self, record: Record) -> dict[str, Any]:
        return {
            "id": record.key,
            "idProperty": self._id_property,
            "objectWriteTraceId": _to_trace(record),
            "properties": {name: _to_property(value) for name, value in record.properties.items()},
        }


def _to_trace(record: Record) -> str:
    return str(record.position)


def _to_property(value: Any) -> str:
    """Every property is sent as text, and an empty one clears it."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _read_failures(answer: Answer, records: Sequence[Record]) -> dict[str, str]:
    try:
        batch = msgspec.json.decode(answer.body, type=_Batch)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BusyError(f"{WHO} answered what cannot be read", status=answer.status) from error
    if batch.status == "CANCELED":
        raise BusyError(f"{WHO} cancelled the batch", status=answer.status)
    if len(records) == 1 and (batch.errors or batch.num_errors):
        return {records[0].key: batch.errors[0].describe() if batch.errors else "no reason given"}
    failures: dict[str, str] = {}
    for told in batch.errors:
        keys = told.find_keys(records)
        if not keys:
            raise RefusedError(told.describe())
        failures |= dict.fromkeys(keys, told.describe())
    if len(failures) < batch.num_errors:
        raise RefusedError(f"{batch.num_errors} errors, of which only {len(failures)} say whom they mean")
    return failures


def _read_wait(answer: Answer) -> float | None:
    """Seconds to wait after a 423, 429 or 5xx: as told, else as the exceeded policy has it, else unknown."""
    told = read_retry_after(answer)
    if told is not None:
        return told
    if answer.status == 423:
        return LOCKED_SECONDS
    if answer.status != 429:
        return None
    try:
        policy = msgspec.json.decode(answer.body, type=_Problem).policy_name
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        policy = ""
    return POLICY_SECONDS.get(policy) or _read_interval(answer) or None


def _read_interval(answer: Answer) -> float:
    value = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        return 0.0
    return min(int(value) / 1000, LONGEST_INTERVAL_SECONDS)
