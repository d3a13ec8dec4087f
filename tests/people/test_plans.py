"""What a look-up of a person, a timeline and a list of callbacks read is only what they are about."""

from typing import Any

import asyncpg
import pytest

from service.people.people import search_name, search_parameter
from service.store.database import connect, load_queries
from tests.factories import AGENT_ID, BATCH_ID, phone_of
from tests.store import plans
from tests.store.plans import reading_little

QUERIES = load_queries()
TABLES = [*plans.TABLES, "callbacks", "callback_marks", "agent_callbacks"]
DONE = 10_000


async def add_people(connection: asyncpg.Connection) -> None:
    """A name for each recipient, and a callback: half of them done."""
    await connection.execute(
        "".join(f"ALTER TABLE {table} SET (autovacuum_enabled = off);" for table in TABLES if "callback" in table)
    )
    await connection.execute(
        """
        UPDATE recipients SET parameters = parameters || jsonb_build_object('name', 'Asha' || recipient_no || ' Rao');
        """
    )
    await connection.execute(
        """
        INSERT INTO agent_callbacks (agent_id, results, time_zone, set_at, actor, applied_at)
        VALUES ($1, '{intent}', 'UTC', now(), 'me', now())
        """,
        AGENT_ID,
    )
    await connection.execute(
        """
        INSERT INTO callbacks (batch_key, recipient_no, name, agent_id, value, conversation_id, asked_at, due_at,
                               overdue_at, is_done)
        SELECT batch_key, recipient_no, 'intent', $1, 'x', 'c', now(), d.at, d.at, recipient_no <= $2
        FROM recipients
        CROSS JOIN LATERAL (SELECT timestamptz '2026-01-01' + recipient_no * interval '1 minute' AS at) AS d
        """,
        AGENT_ID, DONE,
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO callback_marks SELECT batch_key, recipient_no, name, value, conversation_id, now(), 'me', NULL
        FROM callbacks WHERE is_done
        """
    )


async def read(found: Any) -> list[Any]:
    return [row async for row in found]


async def look_up(connection: asyncpg.Connection) -> None:
    """Each way to find a person, and what is shown of one."""
    page: dict[str, Any] = {"most": 5000, "before": 2**63 - 1, "limit": 20}
    for search in (search_parameter("loan_id", "LN-777"), search_name("asha777"), search_name("rao asha777")):
        async with reading_little(connection, f"match_people({search})"):
            found = await read(QUERIES.match_people(connection, **search._asdict(), **page))
            assert [row["phone"] for row in found if row["phone"] == phone_of(777)] == [phone_of(777)]
    phones = [phone_of(number) for number in range(1, 21)]
    async with reading_little(connection, "list_people"):
        assert len(await read(QUERIES.list_people(connection, phones=phones))) == 20
    async with reading_little(connection, "list_recipients_of_people"):
        assert len(await read(QUERIES.list_recipients_of_people(connection, phones=phones, most=50))) == 20
    async with reading_little(connection, "list_timeline"):
        steps = await read(QUERIES.list_timeline(connection, phone=phone_of(777), most=500, before=None, limit=100))
        assert {step["kind"] for step in steps} == {"uploaded", "attempt", "callback_done"}
    async with reading_little(connection, "get_person"):
        assert await QUERIES.get_person(connection, batch_id=BATCH_ID, recipient_no=777)
    async with reading_little(connection, "get_event_body"):
        assert await QUERIES.get_event_body(connection, event_id="old-777")


async def list_callbacks(connection: asyncpg.Connection) -> None:
    """Pages of callbacks of each scope and state."""
    for scope in ({}, {"batch_id": BATCH_ID}, {"agent_id": AGENT_ID}, {"batch_id": BATCH_ID, "agent_id": AGENT_ID}):
        for done, overdue_at in (([False], None), ([True], None), ([False, True], None), ([False], "2027-01-01")):
            at = await connection.fetchval("SELECT $1::text::timestamptz", overdue_at)
            asked: dict[str, Any] = {
                "batch_id": None,
                "agent_id": None,
                "since": None,
                "until": None,
                "from_day": None,
                "to_day": None,
            } | scope
            async with reading_little(connection, f"list_callbacks({scope}, {done}, {overdue_at})"):
                rows = await read(
                    QUERIES.list_callbacks(
                        connection, **asked, done=done, overdue_at=at, after_due=None, after_no=0, limit=100
                    )
                )
                assert len(rows) == 100


async def export_callbacks(connection: asyncpg.Connection) -> None:
    """A range of an export in its transaction, with the results of each call."""
    await QUERIES.begin_export(connection, time_zone="UTC")
    arguments = [None, str(AGENT_ID), "{f,t}", "-infinity", None, None, "2026-01-02", "0", "100", None, None]
    query = await QUERIES.write_export_query(
        connection, rows="callback_rows", arguments=arguments, format="json", parameters=None, escape=False,
        has_other_parameters=False, results=None,
    )  # fmt: skip
    async with reading_little(connection, "callback_rows"):
        assert len(await connection.fetch(query)) == 100


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_people_and_callbacks_are_found_by_index(
    database_url: str, monkeypatch: pytest.MonkeyPatch, is_analysed: bool
) -> None:
    connection = await connect(database_url)
    await plans.fill(connection, database_url)
    await add_people(connection)
    if is_analysed:
        await connection.execute("ANALYZE")
    monkeypatch.setattr(plans, "TABLES", TABLES)
    await look_up(connection)
    await list_callbacks(connection)
    async with connection.transaction():
        await export_callbacks(connection)
    await connection.close()
