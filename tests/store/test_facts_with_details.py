"""Facts have more columns than before: functions of the version before go on until they are replaced."""

import re
from pathlib import Path

from service.store.database import Database
from tests.factories import decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest

SQL = Path(__file__).parents[2] / "sql"
COPIES_ROWS = "INSERT INTO past_facts SELECT taken.*, v_now FROM taken"


async def test_facts_are_taken_between_the_migration_and_the_new_functions(database: Database) -> None:
    await store_batch(database.url, 2)
    await ingest(database, *decode(make_payload(recipient=1), make_payload(recipient=2)))
    function = (SQL / "functions" / "35_take_facts.sql").read_text()
    before = re.sub(r"INSERT INTO past_facts \(.*?FROM taken", COPIES_ROWS, function, flags=re.DOTALL)
    assert COPIES_ROWS in before
    migration = (SQL / "migrations" / "0037_call_details.sql").read_text()
    (block,) = re.findall(r"^DO \$\$.*?^END \$\$;", migration, flags=re.DOTALL | re.MULTILINE)
    await database.pool.execute(before)
    await database.pool.execute(block)
    first, second = await database.pool.fetch("SELECT * FROM facts ORDER BY arrival_id")
    await database.pool.execute("SELECT take_facts(ARRAY[$1::bigint])", first["arrival_id"])
    (past,) = await database.pool.fetch("SELECT * FROM past_facts")
    kept = {name: value for name, value in first.items() if name not in {"from_phone", "trace_id"}}
    assert {name: past[name] for name in kept} == kept
    assert past["withdrawn_at"] is not None
    assert await database.pool.fetch("SELECT * FROM facts") == [second]
