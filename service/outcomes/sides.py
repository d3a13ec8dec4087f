"""Sides of a comparison: a batch, a campaign, a test batch or its main batch, or the batches created in a period."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from starlette.requests import Request

from service.errors import InvalidRequestError, NotFoundError
from service.outcomes.groups import MAX_BATCHES
from service.store.database import Connection
from service.web.parameters import Parameter
from service.web.times import Moment

MAX_DAYS = 366
FORMS = "batch:ID, campaign:ID, test:CAMPAIGN_ID, main:CAMPAIGN_ID, agent:ID:FROM..TO or period:FROM..TO"
_FROM, _TO = Moment("from", "", day="begins"), Moment("to", "", day="ends")


class SideQuery(NamedTuple):
    """Which batches a side has: exactly one of its ids, or a period, of one agent or of all."""

    text: str
    batch_id: int | None = None
    campaign_id: int | None = None
    role: str | None = None
    """Of a campaign: only its ``test`` or its ``main`` batch."""
    agent_id: int | None = None
    start: datetime | None = None
    end: datetime | None = None


class Side(Parameter[str, None]):
    """A side of a comparison, in one of ``FORMS``. Days are those of ``time_zone``, both included."""

    is_required = True

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description, FORMS, {"type": "string"}, None)
        self.schema = {**self.schema, "examples": ["batch:123", "agent:7:2026-11-16..2026-11-22"]}

    def read_in(self, request: Request, zone: ZoneInfo) -> SideQuery:
        """The side; raises InvalidRequestError."""
        text = request.query_params.get(self.name)
        if text is None:
            raise InvalidRequestError(f"{self.name}: is missing; it takes {self.takes}")
        kind, _, rest = text.partition(":")
        try:
            match kind:
                case "batch":
                    return SideQuery(text, batch_id=_read_id(rest))
                case "campaign":
                    return SideQuery(text, campaign_id=_read_id(rest))
                case "test" | "main":
                    return SideQuery(text, campaign_id=_read_id(rest), role=kind)
                case "agent":
                    agent, _, span = rest.partition(":")
                    return SideQuery(text, None, None, None, _read_id(agent), *self._read_period(span, zone))
                case "period":
                    return SideQuery(text, None, None, None, None, *self._read_period(rest, zone))
        except ValueError as error:
            raise InvalidRequestError(f"{self.name}: takes {self.takes}") from error
        raise InvalidRequestError(f"{self.name}: takes {self.takes}")

    def _read_period(self, span: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
        first, dots, last = span.partition("..")
        try:
            start, end = _FROM.parse_in(first, zone), _TO.parse_in(last, zone)
        except InvalidRequestError as error:
            raise InvalidRequestError(
                f"{self.name}: FROM and TO take a day or an ISO 8601 time, as in 2026-11-16..2026-11-22"
            ) from error
        if not dots or start >= end:
            raise InvalidRequestError(f"{self.name}: the period must end after it begins")
        # Two hours more, because the clocks may change in between.
        if end - start > timedelta(days=MAX_DAYS, hours=2):
            raise InvalidRequestError(f"{self.name}: a period takes at most {MAX_DAYS} days")
        return start, end


def _read_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(text)
    return int(text)


async def find_batches(queries: Any, connection: Connection, name: str, side: SideQuery) -> list[int]:
    """The keys of a side's batches; ``name`` is its parameter. Raises NotFoundError for an unknown batch or campaign,
    and InvalidRequestError for too many batches."""
    if side.start is not None:
        found = queries.list_batches_made(
            connection, agent_id=side.agent_id, start=side.start, until=side.end, most=MAX_BATCHES + 1
        )
    else:
        found = queries.list_batches_of_campaign(
            connection, batch_id=side.batch_id, campaign_id=side.campaign_id, role=side.role
        )
    keys = [row["batch_key"] async for row in found]
    if len(keys) > MAX_BATCHES:
        raise InvalidRequestError(f"{name}: has more than {MAX_BATCHES:,} batches; shorten the period or give an agent")
    if not keys and side.start is None:
        raise NotFoundError(f"{name}: there is no {side.text.replace(':', ' ')}")
    return keys
