"""What older versions left in the database, for repairs to find."""

from hashlib import blake2b
from typing import Any

from service.store.database import Database
from tests.factories import decode
from tests.webhooks.ingesting import ingest


async def ingest_as_before(database: Database, *payloads: dict[str, Any]) -> None:
    """Ingests as an older version did, with the phone as written. A number replaces it meanwhile, because text that is
    not a number no longer makes a recipient."""
    for payload, event in zip(payloads, decode(*payloads), strict=True):
        said = payload["data"]["call"]["to_phone"]
        stand_in = f"+1{int.from_bytes(blake2b(said.encode(), digest_size=6).digest()) % 10**12:012}"
        await ingest(database, event._replace(phone=stand_in))
        for table in ("recipients", "unattributed", "unreferenced_events"):
            await database.pool.execute(f"UPDATE {table} SET phone = $1 WHERE phone = $2", said, stand_in)


async def ask_for_repair(database: Database) -> None:
    """As the migration does on a database that has people in it."""
    await database.pool.execute("INSERT INTO phone_repairs (name, step) VALUES ('phones', 'recipients')")
