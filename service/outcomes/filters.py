"""Filters of recipients and attempts: the same for lists and exports, and compared in one place,
``sql/functions/15_meets_filters.sql``."""

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request

from service.errors import InvalidRequestError
from service.formant.events import STATUSES
from service.formant.regions import Regions
from service.phones.canonical import require_phone
from service.phones.parsing import PhoneError, is_plain_e164
from service.store.database import Database
from service.web.parameters import Choices, Free, Number, Repeated
from service.web.times import Moment

STATES = ("in_progress", "pending_retry", *STATUSES, "withdrawn", "erased")
SOURCES = ("webhook", "healed")
ATTEMPTS_LIMIT = 2**31 - 1

STATE = Choices("state", "Only recipients in one of these states", STATES)
STATUS = Choices("status", "Only those whose (latest) attempt has one of these statuses", STATUSES)
SOURCE = Choices("source", "Only those whose outcome comes from one of these sources", SOURCES)
MIN_ATTEMPTS = Number("min_attempts", "Minimum number of attempts", default=0, minimum=0, maximum=ATTEMPTS_LIMIT)
MAX_ATTEMPTS = Number(
    "max_attempts", "Maximum number of attempts", default=ATTEMPTS_LIMIT, minimum=0, maximum=ATTEMPTS_LIMIT
)
CHANGED_SINCE = Moment("changed_since", "Only what changed since then: a day of `time_zone`, or a time", day="begins")
RESULT = Repeated(
    "result", "Only those with this result. Several of one name: any of them; of different names: all of them",
    "NAME:VALUE, such as intent:promise_to_pay",
)  # fmt: skip
RESULT_BETWEEN = Repeated(
    "result_between", "Only those with a result that is a day or a time in this range: both days included, an end that "
    "is a time excluded; either side may be empty",
    "NAME:FROM..TO with days or ISO 8601 times, such as promise_date:2026-03-16..2026-03-20",
)  # fmt: skip
PARAMETER = Repeated(
    "parameter", "Only recipients with this call parameter; several as in `result`", "NAME:VALUE, such as city:Pune"
)
FAILURE_REASON = Repeated(
    "failure_reason", "Only those with this reason of failure, or one of several", "a reason in the provider's words"
)
PHONE = Free("phone", "Only this person, by phone in any spelling (`%2B91…`)", "a phone")

ATTEMPT_FILTERS = (STATUS, SOURCE, CHANGED_SINCE, RESULT, RESULT_BETWEEN, PARAMETER, FAILURE_REASON, PHONE)
RECIPIENT_FILTERS = (STATE, MIN_ATTEMPTS, MAX_ATTEMPTS, *ATTEMPT_FILTERS)

_FROM, _TO = Moment("from", "", day="begins"), Moment("to", "", day="ends")


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rows must meet, all of it; the fields are those that ``meets_filters()`` reads."""

    states: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    min_attempts: int = 0
    max_attempts: int = ATTEMPTS_LIMIT
    changed_since: datetime | None = None
    results: dict[str, list[str]] = {}
    result_times: dict[str, tuple[datetime | None, datetime | None]] = {}
    """By name: not before the first, and before the second."""
    time_zone: str | None = None
    """Of results that are days, or times without an offset; only with ``result_times``."""
    parameters: dict[str, list[str]] = {}
    failure_reasons: tuple[str, ...] = ()
    phone: str | None = None
    """In E.164."""

    def to_json(self) -> str | None:
        """The filters for the database; None without any."""
        return None if self == NO_FILTERS else msgspec.json.encode(self).decode()


NO_FILTERS = Filters()


class FilterReader:
    """Reads the filters of a request; ``regions`` has the countries of phones without a country code."""

    def __init__(self, database: Database, regions: Regions) -> None:
        self._database = database
        self._regions = regions

    async def read(
        self, request: Request, zone: ZoneInfo, *, batch_id: int | None = None, agent_id: int | None = None
    ) -> Filters:
        """The filters in the query, with days of ``zone``; a phone is read as those of the batch or the agent are.

        Raises InvalidRequestError, which names the parameter.
        """
        least, most = MIN_ATTEMPTS.read(request), MAX_ATTEMPTS.read(request)
        if least > most:
            raise InvalidRequestError("min_attempts, max_attempts: the minimum is above the maximum")
        times = _read_ranges(request, zone)
        return Filters(
            states=STATE.read(request),
            statuses=STATUS.read(request),
            sources=SOURCE.read(request),
            min_attempts=least,
            max_attempts=most,
            changed_since=CHANGED_SINCE.read_in(request, zone),
            results=_read_pairs(request, RESULT),
            result_times=times,
            time_zone=zone.key if times else None,
            parameters=_read_pairs(request, PARAMETER),
            failure_reasons=FAILURE_REASON.read(request),
            phone=await self._read_phone(request, batch_id, agent_id),
        )

    async def _read_phone(self, request: Request, batch_id: int | None, agent_id: int | None) -> str | None:
        text = PHONE.read(request)
        if text is None:
            return None
        if text.startswith(" "):
            text = f"+{text.strip()}"  # a plus sign that was not encoded
        if is_plain_e164(text):
            return text
        if batch_id is not None:
            agent_id = await self._database.queries.get_batch_agent(self._database.pool, batch_id=batch_id)
        region = self._regions.sole if agent_id is None else self._regions.find(agent_id)
        try:
            return require_phone(text, region)
        except PhoneError as error:
            raise InvalidRequestError("phone: takes a phone with its country code, such as %2B919876543210") from error


def _read_pairs(request: Request, parameter: Repeated) -> dict[str, list[str]]:
    """The values by name."""
    pairs: dict[str, list[str]] = {}
    for text in parameter.read(request):
        name, colon, value = text.partition(":")
        if not (name and colon):
            raise parameter.refuse()
        pairs.setdefault(name, []).append(value)
    return pairs


def _read_ranges(request: Request, zone: ZoneInfo) -> dict[str, tuple[datetime | None, datetime | None]]:
    ranges: dict[str, tuple[datetime | None, datetime | None]] = {}
    for text in RESULT_BETWEEN.read(request):
        name, colon, span = text.partition(":")
        first, dots, last = span.partition("..")
        if not (name and colon and dots and (first or last)):
            raise RESULT_BETWEEN.refuse()
        if name in ranges:
            raise InvalidRequestError("result_between: was given twice for one name; give one range")
        try:
            start = _FROM.parse_in(first, zone) if first else None
            end = _TO.parse_in(last, zone) if last else None
        except InvalidRequestError as error:
            raise RESULT_BETWEEN.refuse() from error
        if start is not None and end is not None and start >= end:
            raise InvalidRequestError("result_between: the range must end after it begins")
        ranges[name] = (start, end)
    return ranges
