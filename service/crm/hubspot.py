"""HubSpot: ``POST /crm/v3/objects/{objectType}/batch/upsert``, as its public API reference describes it.

At most 100 inputs, each with ``id`` and ``idProperty``; 200 when all were taken, 207 with ``errors`` when some were
not, 400 for the whole batch (so also where two inputs have the same id). Every field of an answer is optional. A result
names its input by ``objectWriteTraceId`` (which we send) or the unique property, an error by that in its ``context`` or
by ``context.ids``; an input that none names is not confirmed. ``GET /crm/v3/properties/{objectType}`` lists
the properties.
Limits come as 429 with ``Retry-After`` or a ``policyName``, as 423, and as ``X-HubSpot-RateLimit-*`` in every answer.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

import httpx
import msgspec
import structlog

from service.crm.entries import suggest
from service.crm.exchange import MAX_MESSAGE_CHARACTERS, BusyError, CrmAnswer, RefusedError, SyncError, exchange
from service.crm.mapping import HubSpot, Key
from service.crm.records import Record
from service.crm.targets import WHO, Reply, check_refusal, decode
from service.http_dates import read_retry_after

logger = structlog.get_logger()

POLICY_SECONDS = {"DAILY": 600.0, "TEN_SECONDLY_ROLLING": 10.0, "SECONDLY": 1.0}
LOCKED_SECONDS = 2.0  # "a delay of at least 2 seconds" after a 423
MAX_INTERVAL_SECONDS = 60.0
_MISSING = re.compile(r'Property \\*"(?P<name>[^"\\]+)\\*" does not exist|PROPERTY_DOESNT_EXIST')
_MISSING_NAME = re.compile(r'\\*"(?:name|propertyName)\\*"\s*:\s*\[?\s*\\*"(?P<name>[^"\\]+)\\*"')


class _Error(msgspec.Struct):
    message: str | None = None
    category: str | None = None
    context: dict[str, list[str] | str | None] | None = None

    def describe(self) -> str:
        """The reason, in HubSpot's words."""
        return (
            ": ".join(part for part in (self.category, self.message) if part)[:MAX_MESSAGE_CHARACTERS]
            or "no reason given"
        )

    def find_keys(self, records: Sequence[Record]) -> list[str]:
        """The keys of the records that it names."""
        traces, ids = self._read("objectWriteTraceId"), self._read("ids") | self._read("id")
        return [each.key for each in records if _to_trace(each) in traces or each.key in ids]

    def _read(self, name: str) -> set[str]:
        given = (self.context or {}).get(name) or []
        return {given} if isinstance(given, str) else set(given)


class _Result(msgspec.Struct, rename="camel"):
    id: str | int | None = None
    object_write_trace_id: str | None = None
    properties: dict[str, Any] | None = None


class _Batch(msgspec.Struct, rename="camel"):
    status: str
    num_errors: int = 0
    errors: list[_Error] = []
    results: list[_Result] = []


class _Changes(msgspec.Struct, rename="camel"):
    read_only_value: bool = False


class _Property(msgspec.Struct, rename="camel"):
    name: str
    has_unique_value: bool = True
    modification_metadata: _Changes | None = None


class _Properties(msgspec.Struct):
    results: list[_Property]


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
        self._object_type = target.object_type
        self._url = f"{target.url.rstrip('/')}/crm/v3/objects/{target.object_type}/batch/upsert"
        self._properties_url = f"{target.url.rstrip('/')}/crm/v3/properties/{target.object_type}"
        self._id_property = key.id_property
        self._sleep = sleep
        self._rest_seconds = 0.0
        self.batch_size = target.batch_size

    async def check(self, properties: Collection[str]) -> None:
        """As ``Target.check``; when the token must not read the properties, it logs that and checks nothing."""
        answer = await exchange(self._http, WHO, "GET", self._properties_url, read_wait=_read_wait)
        if answer.status == 403:
            logger.warning("crm_property_check_failed", status=answer.status)
            return
        try:
            check_refusal(answer)
        except RefusedError as error:
            raise SyncError(f"{WHO} refused to list its properties: {error}") from error
        known = {each.name: each for each in decode(answer, _Properties).results}
        faults = [fault for name in sorted(properties) if (fault := self._find_fault(name, known))]
        if faults:
            raise SyncError(f"The mapping does not fit HubSpot's {self._object_type}: {'; '.join(faults)}")

    def _find_fault(self, name: str, known: dict[str, _Property]) -> str:
        """What is wrong with a property of the mapping, or ""."""
        if name not in known:
            return f"there is no property {name!r}{suggest(name, known)}"
        if name == self._id_property:  # a contact's email is unique without being marked so
            return "" if known[name].has_unique_value or name == "email" else f"{name!r} does not hold unique values"
        changes = known[name].modification_metadata
        return f"{name!r} is read-only" if changes and changes.read_only_value else ""

    async def send(self, records: Sequence[Record]) -> Reply:
        """As ``Target.send``. When HubSpot allows no more calls in its interval, the next call waits."""
        if self._rest_seconds:
            await self._sleep(self._rest_seconds)
            self._rest_seconds = 0.0
        body = msgspec.json.encode({"inputs": [self._to_input(record) for record in records]})
        answer = await exchange(self._http, WHO, "POST", self._url, content=body, read_wait=_read_wait)
        if answer.headers.get("x-hubspot-ratelimit-remaining") == "0":
            self._rest_seconds = _read_interval(answer)
        self._check_missing(answer, records)
        check_refusal(answer)
        return self._read_reply(answer, records)

    def _check_missing(self, answer: CrmAnswer, records: Sequence[Record]) -> None:
        """Raises SyncError when a property does not exist (any more): the mapping is wrong, not the records."""
        text = answer.body.decode(errors="replace")
        if answer.status not in {207, 400} or not _MISSING.search(text):
            return
        found = {match["name"] for rule in (_MISSING, _MISSING_NAME) for match in rule.finditer(text) if match["name"]}
        names = found & {name for record in records for name in record.properties}
        missing = " and ".join(repr(name) for name in sorted(names)) or "of the mapping"
        raise SyncError(
            f"HubSpot's {self._object_type} have no property {missing} (any more). Create it again, or remove it from "
            "the mapping file; nothing after the last page was acknowledged"
        )

    def _read_reply(self, answer: CrmAnswer, records: Sequence[Record]) -> Reply:
        batch = decode(answer, _Batch)
        if batch.status == "CANCELED":
            raise BusyError(f"{WHO} cancelled the batch", status=answer.status)
        if len(records) == 1 and (batch.errors or batch.num_errors):
            reason = batch.errors[0].describe() if batch.errors else "no reason given"
            return Reply(refused={records[0].key: reason})
        refused = {key: error.describe() for error in batch.errors for key in error.find_keys(records)}
        return Reply(self._find_taken(batch.results, records, refused.keys()), refused)

    def _find_taken(
        self, results: Sequence[_Result], records: Sequence[Record], refused: Collection[str]
    ) -> frozenset[str]:
        """The keys that results confirm. Results that name no input confirm the remaining records only when there are
        as many different objects as such records: each upsert affects one object, so none was left out."""
        by_trace = {_to_trace(record): record.key for record in records}
        by_key = {_normalize(record.key): record.key for record in records}
        taken, nameless, strangers = set[str](), set[str](), 0
        for result in results:
            named = (result.properties or {}).get(self._id_property)
            if result.object_write_trace_id is not None:
                key = by_trace.get(result.object_write_trace_id)
            elif named is not None:
                key = by_key.get(_normalize(_to_property(named)))
            else:
                nameless |= {str(result.id)} - {"None"}
                continue
            if key is None:
                strangers += 1
            else:
                taken.add(key)
        rest = {record.key for record in records} - taken - set(refused)
        if not strangers and len(nameless) == len(rest):
            taken |= rest
        return frozenset(taken)

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


def _normalize(key: str) -> str:
    """A key as HubSpot compares it: without regard to case, and numbers by their value."""
    exactly = Context(prec=len(key) + 1, Emin=MIN_EMIN, Emax=MAX_EMAX)
    with suppress(ArithmeticError):
        if (number := Decimal(key.strip())).is_finite():
            return str(number.normalize(exactly))
    return key.strip().casefold()


def _read_wait(answer: CrmAnswer) -> float | None:
    """Seconds to wait after a 423, 429 or 5xx: from ``Retry-After``, else by the exceeded policy; None: unknown."""
    asked = read_retry_after(answer.headers)
    if asked is not None:
        return asked
    if answer.status == 423:
        return LOCKED_SECONDS
    if answer.status != 429:
        return None
    try:
        policy = msgspec.json.decode(answer.body, type=_Problem).policy_name
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        policy = ""
    return POLICY_SECONDS.get(policy) or _read_interval(answer) or None


def _read_interval(answer: CrmAnswer) -> float:
    value = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        return 0.0
    return min(int(value) / 1000, MAX_INTERVAL_SECONDS)
