"""Sends events through ``ingest`` as the writer does, and reads what became of them."""

import json
from datetime import datetime
from typing import Any, NamedTuple

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import Event
from service.store.database import Database
from tests.factories import AGENT_ID, BEGAN, RECEIVED, phone_of


class Counted(NamedTuple):
    """What ``ingest`` says became of a group."""

    applied: int = 0
    duplicates: int = 0
    conflicts: int = 0
    unattributed: int = 0
    other_calls: int = 0


async def ingest(database: Database, *events: Event) -> Counted:
    """Commits the events as one group."""
    columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
    return Counted(**await database.queries.ingest(database.pool, **columns))


async def get_event(database: Database, event_id: str) -> dict[str, Any]:
    """What became of an event."""
    return dict(await database.queries.get_event(database.pool, event_id=event_id))


async def list_outcomes(database: Database) -> list[dict[str, Any]]:
    """All outcomes, by batch and recipient."""
    rows = await database.pool.fetch(
        "SELECT batch_key, recipient_no, state, attempts, position, version FROM outcomes ORDER BY 1, 2"
    )
    return [dict(row) for row in rows]


async def read_state(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Everything derived from events except the times and the order of their arrival."""
    queries = {
        "outcomes": "SELECT o.batch_key, o.recipient_no, o.state, o.attempts, f.status, f.conversation_id, f.results, "
        "f.duration_seconds, f.source FROM outcomes AS o JOIN facts AS f USING (batch_key, recipient_no, arrival_id)",
        "outcome_counts": "SELECT * FROM outcome_counts WHERE recipients <> 0 OR talked <> 0 OR talk_seconds <> 0",
        "result_counts": "SELECT batch_key, name, value, recipients FROM result_counts WHERE recipients <> 0",
        "result_totals": "SELECT * FROM result_totals WHERE recipients <> 0",
        "attempt_counts": "SELECT * FROM attempt_counts WHERE attempts <> 0",
        "call_counts": "SELECT batch_key, name, value, attempts, connects FROM call_counts "
        "WHERE attempts <> 0 OR connects <> 0",
        "talk_time_counts": "SELECT * FROM talk_time_counts WHERE recipients <> 0",
        "contact_counts": "SELECT * FROM contact_counts WHERE recipients <> 0 OR connects <> 0",
        "retry_counts": "SELECT * FROM retry_counts WHERE recipients <> 0",
        "unattributed": "SELECT event_id, agent_id, phone, reason FROM unattributed",
    }
    return {
        name: sorted([tuple(row) for row in await database.pool.fetch(text)], key=repr)
        for name, text in queries.items()
    }


def converse(
    *,
    status: str = "busy",
    conversation_id: str = "c-1",
    began: datetime | None = BEGAN,
    seconds: int = 20,
    **more: Any,
) -> bytes:
    """A conversation as the provider answers it."""
    start = None if began is None else round(began.timestamp() * 1000)
    record = {
        "agent_id": AGENT_ID, "contact_number": phone_of(1), "conversation_id": conversation_id, "status": status,
        "start_timestamp": start, "end_timestamp": start and start + 1000 * seconds, "results": {}, **more,
    }  # fmt: skip
    return json.dumps({"data": record}).encode()


def heal(*, may_retry: bool = False, **fields: Any) -> Event:
    """The event that heals such a call."""
    conversation = decode_conversation(converse(**fields))
    event = to_event(conversation, received_at=RECEIVED, may_retry=may_retry)
    assert event is not None
    return event
