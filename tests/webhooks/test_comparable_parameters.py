"""Call parameters are compared by what they mean: an equal cell is equal however the provider spells it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.store.database import Database
from tests.factories import phone_of
from tests.guarantees.ambiguous_calls import call, find, make_dashboard_batch, read_states, register, settle
from tests.guarantees.calls import comparable
from tests.webhooks.ingesting import ingest

EQUAL: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"loan_id": "1", "note": ""}, {"loan_id": "1"}),
    ({"loan_id": "1", "note": ""}, {"loan_id": "1", "note": None}),
    ({"loan_id": "1", "note": ""}, {"loan_id": 1, "note": " \t"}),
    ({"loan_id": "1"}, {"loan_id": 1.0}),
    ({"loan_id": "1.50"}, {"loan_id": 1.5}),
    ({"loan_id": "0017"}, {"loan_id": 17}),
    ({"loan_id": "-0.0"}, {"loan_id": 0}),
    ({"loan_id": "12345678901234567890"}, {"loan_id": 12345678901234567890}),
    ({"loan_id": " LN-1\u00a0"}, {"loan_id": "LN-1\r\n"}),
    ({"loan_id": "true"}, {"loan_id": True}),
    ({"loan_id": "", "note": ""}, {"loan_id": None}),
]
UNEQUAL: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"loan_id": "1"}, {"loan_id": "11"}),
    ({"loan_id": "LN-1"}, {"loan_id": "ln-1"}),
    ({"loan_id": "LN 1"}, {"loan_id": "LN1"}),
    ({"loan_id": "1.5"}, {"loan_id": "1,5"}),
    ({"loan_id": "0"}, {"loan_id": ""}),
    ({"loan_id": "1e2"}, {"loan_id": "100"}),
    ({"loan_id": "1"}, {"note": "1"}),
    ({"loan_id": "false"}, {"loan_id": None}),
]

values = (
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.floats(-20, 20, width=16).map(lambda number: round(number, 2))
    | st.sampled_from(["", " ", "4", "4.0", "04", " 4 ", "-4.50", "4e0", "x", "X", "\tx\n", "\u00a0x"])
    | st.sampled_from(["9" * 99, "9" * 101, "9" * 300, "true", "[1, 2]", "null"])
    | st.just([1, 2])
    | st.just({"a": None})
)  # fmt: skip


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


def test_the_database_and_the_oracle_find_the_same_parameters_equal(runner: asyncio.Runner, database_url: str) -> None:
    connection = runner.run(asyncpg.connect(database_url))

    async def ask(one: dict[str, Any], other: dict[str, Any]) -> bool:
        equal: bool = await connection.fetchval(
            "SELECT comparable_parameters($1) = comparable_parameters($2)", json.dumps(one), json.dumps(other)
        )
        return equal

    def check(one: dict[str, Any], other: dict[str, Any]) -> None:
        assert runner.run(ask(one, other)) == (comparable(one) == comparable(other))

    for one, other in EQUAL:
        assert comparable(one) == comparable(other)
        check(one, other)
    for one, other in UNEQUAL:
        assert comparable(one) != comparable(other)
        check(one, other)
    several = st.dictionaries(st.sampled_from("ab"), values)
    settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))(
        given(one=several, other=several)(check)
    )()
    runner.run(connection.close())


@pytest.mark.parametrize(("row", "said"), EQUAL)
async def test_registering_the_right_csv_keeps_what_a_window_counted_however_values_are_spelt(
    database: Database, row: dict[str, str], said: dict[str, Any]
) -> None:
    await make_dashboard_batch(database, 21, 0)
    await ingest(database, call("spelt", 1, 1, parameters=said))
    await register(database, 21, [(1, row), (2, row)])
    assert await find(database, "spelt") == [(21, 1)]
    assert await read_states(database, 21) == ["completed"]
    stored = await database.pool.fetchval("SELECT parameters FROM recipients WHERE phone = $1", phone_of(1))
    assert json.loads(stored) == row


@pytest.mark.parametrize(("row", "said"), EQUAL)
async def test_a_call_finds_its_row_among_two_of_one_phone_however_values_are_spelt(
    database: Database, row: dict[str, str], said: dict[str, Any]
) -> None:
    await make_dashboard_batch(database, 21, 0)
    await register(database, 21, [(1, {"loan_id": "other"}), (1, row)])
    await ingest(database, call("spelt", 1, 1, parameters=said))
    assert await find(database, "spelt") == [(21, 2) if comparable(said) else "ambiguous"]


@pytest.mark.parametrize(("row", "said"), UNEQUAL)
async def test_other_values_are_no_rows(database: Database, row: dict[str, str], said: dict[str, Any]) -> None:
    await make_dashboard_batch(database, 21, 0)
    await register(database, 21, [(1, {"topic": "given", **row})])
    await ingest(database, call("other", 1, 1, parameters={"topic": "given", **said}))
    assert await find(database, "other") == ["no_batch" if row["loan_id"] else (21, 1)]


async def test_one_person_is_one_recipient_of_a_window_however_values_are_spelt(database: Database) -> None:
    await make_dashboard_batch(database, 21, 0)
    spelt = ({"loan_id": "4", "note": ""}, {"loan_id": 4.0}, {"loan_id": " 4", "note": None})
    for n, said in enumerate(spelt):
        await ingest(database, call(f"spelt {n}", 1, 1 + n, status="busy", final=False, parameters=said))
    await settle(database)
    assert await find(database, "spelt 0", "spelt 1", "spelt 2") == [(21, 1)] * 3
    stored = await database.pool.fetchval("SELECT parameters FROM recipients WHERE withdrawn_at IS NULL")
    assert json.loads(stored) == spelt[0]


@pytest.mark.parametrize("said", [{}, {"loan_id": None}, {"loan_id": "", "other": " "}])
async def test_a_call_whose_parameters_are_all_empty_has_none(database: Database, said: dict[str, Any]) -> None:
    await make_dashboard_batch(database, 21, 0)
    await ingest(
        database,
        call("unanswered", 1, 1, status="busy", final=False, parameters=said),
        call("answered", 1, 2, parameters={"loan_id": "7"}),
    )
    assert await find(database, "unanswered", "answered") == [(21, 1), (21, 1)]
    stored = await database.pool.fetchval("SELECT parameters FROM recipients WHERE withdrawn_at IS NULL")
    assert json.loads(stored) == {"loan_id": "7"}
