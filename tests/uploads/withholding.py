"""A batch that may be an upload's whose answer was lost."""

from typing import Any

from service.store.database import Database
from tests.factories import AGENT_ID, BEGAN, decode, make_payload
from tests.guarantees.ambiguous_calls import settle
from tests.webhooks.ingesting import ingest

NAMESAKE = {
    "batch_id": 1,
    "agent_id": AGENT_ID,
    "name": "march follow ups",
    "total_recipients": 50,
    "created_at": BEGAN,
}


async def call(database: Database, phone: str, name: str = "call", **parameters: Any) -> None:
    payload = make_payload(recipient=None, phone=phone, parameters=parameters or {"loan_id": "x"}, event_id=name)
    await ingest(database, *decode(payload))
    await settle(database)
