"""Scenarios in which a call may belong to several batches."""

from datetime import timedelta
from typing import Any

from service.formant.events import Event
from service.store.database import Database
from service.uploads.registration import Registrar
from tests.factories import AGENT_ID, BEGAN, decode, encode, make_payload, phone_of
from tests.webhooks.ingesting import get_event


def hour(number: float) -> Any:
    return BEGAN + timedelta(hours=number)


def call(event_id: str, person: int, at: float, *, ref: str | None = None, bare: bool = False, **fields: Any) -> Event:
    """A call's webhook. ``ref`` is the batch token of its reference to recipient ``person``; None for no reference.
    ``bare`` leaves out all parameters."""
    usual = {
        "event_id": event_id, "recipient": person if ref else None, "ref_token": ref or "", "phone": phone_of(person),
        "parameters": {"loan_id": f"LN-{person}"}, "conversation_id": f"c-{event_id}", "began": hour(at),
    }  # fmt: skip
    payload = make_payload(**usual | fields)
    if bare:
        payload["data"]["call"]["call_parameters"] = None
    return decode(payload)[0]


async def make_dashboard_batch(database: Database, batch_id: int, at: float, total: int = 100) -> None:
    """Stores a batch made elsewhere, as discovery finds it; it was created a minute before ``at``."""
    await note_dashboard_batch(database, batch_id, at, total)
    await settle(database)


async def note_dashboard_batch(database: Database, batch_id: int, at: float, total: int) -> None:
    """Notes the batch without placing anything again."""
    await database.queries.note_batches(
        database.pool, batch_id=[batch_id], agent_id=[AGENT_ID], name=["Dashboard"], status=["pending"],
        total_recipients=[total], created_at=[hour(at) - timedelta(minutes=1)],
    )  # fmt: skip


async def settle(database: Database) -> None:
    """Finishes all pending work."""
    await Registrar(database).finish_all()


async def register(database: Database, batch_id: int, rows: list[tuple[int, dict[str, str]]]) -> None:
    """Registers the CSV of a batch made elsewhere."""
    key = await database.pool.fetchval("SELECT batch_key FROM batches WHERE batch_id = $1", batch_id)
    await database.queries.begin_registration(
        database.pool, batch_key=key, file_digest=b"", columns=["loan_id"], recipients=len(rows)
    )
    await database.pool.executemany(
        "INSERT INTO staged_recipients SELECT $1, $2, $3, $4::text::jsonb",
        [(key, n, phone_of(person), encode(row).decode()) for n, (person, row) in enumerate(rows, start=1)],
    )
    await settle(database)


async def find(database: Database, *event_ids: str) -> list[Any]:
    """Where each event is counted, as batch and recipient, or the reason why it is not."""
    found = [await get_event(database, event_id) for event_id in event_ids]
    return [row["reason"] or (row["batch_id"], row["recipient"]) for row in found]


async def read_states(database: Database, batch_id: int) -> list[str]:
    rows = await database.pool.fetch(
        "SELECT o.state FROM outcomes AS o JOIN batches AS b USING (batch_key) "
        "WHERE b.batch_id = $1 AND o.attempts > 0 AND o.state <> 'withdrawn' ORDER BY o.recipient_no", batch_id,
    )  # fmt: skip
    return [row["state"] for row in rows]
