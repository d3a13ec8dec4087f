"""Slices: a batch by the values of a call parameter or of a result, bounded, and honest about what they cost."""

from typing import Any

import httpx
import pytest

from service.errors import UnavailableError
from service.outcomes import slices
from service.outcomes.slices import Slicer
from service.store.database import Database
from tests.factories import BATCH_ID, decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest

PATH = f"/v1/batch-calls/{BATCH_ID}/outcomes"


async def fill(database: Database, cities: list[str | None]) -> int:
    """A batch with a recipient for each city; null: the parameter is not there."""
    key = await store_batch(database.url, len(cities))
    await database.pool.execute("UPDATE batches SET columns = '{customer_phone,loan_id,city}'")
    await database.pool.execute(
        "UPDATE recipients SET parameters = parameters || jsonb_build_object('city', c.city) "
        "FROM unnest($1::text[]) WITH ORDINALITY AS c (city, n) WHERE recipient_no = c.n AND c.city IS NOT NULL",
        cities,
    )
    return key


async def read(service: httpx.AsyncClient, by: str) -> dict[str, Any]:
    answer = await service.get(PATH, params={"by": by})
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_each_value_of_a_call_parameter_has_its_recipients_statuses_and_rates(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database, ["Pune", "Delhi", "Pune", "", None, "Pune", "Delhi"])
    await ingest(
        database,
        *decode(
            make_payload(recipient=1),
            make_payload(recipient=2, status="busy"),
            make_payload(recipient=3, attempt=1, status="no_answer", final=False),
            make_payload(recipient=5),
        ),
    )
    data = await read(service, "city")
    shown = data["slices"]
    assert (shown["by"], shown["other"]) == ("city", None)
    assert [(row["value"], row["recipients"]["total"]) for row in shown["values"]] == [
        ("Pune", 3), ("Delhi", 2), ("", 1), (None, 1),
    ]  # fmt: skip
    pune = shown["values"][0]
    assert pune["recipients"] == {"total": 3, "processed": 1, "in_progress": 1, "pending_retry": 1}
    assert (pune["statuses"]["completed"], pune["attempts"]) == (1, {"total": 2, "recipients": 2})
    assert pune["rates"]["success_rate"] == {
        "percent": 33.3, "count": 1, "of": 3, "denominator": "recipients.total",
    }  # fmt: skip
    for status, count in data["statuses"].items():
        assert sum(row["statuses"][status] for row in shown["values"]) == count
    computed = shown["computed"]
    assert (computed["recipients"], "scan" in computed["how"], computed["seconds"] >= 0) == (7, True, True)
    assert "slices" not in (await service.get(PATH)).json()["data"]


async def test_results_can_be_sliced_by_too(service: httpx.AsyncClient, database: Database) -> None:
    await fill(database, ["Pune"] * 4)
    await ingest(
        database,
        *decode(
            make_payload(recipient=1, results={"intent": "paid"}),
            make_payload(recipient=2, results={"intent": "paid"}),
            make_payload(recipient=3, results={"intent": "refused"}),
        ),
    )
    shown = (await read(service, "results.intent"))["slices"]
    assert [(row["value"], row["recipients"]["total"]) for row in shown["values"]] == [
        ("paid", 2), ("refused", 1), (None, 1),
    ]  # fmt: skip


async def test_beyond_the_most_frequent_values_the_others_are_shown_together(
    service: httpx.AsyncClient, database: Database
) -> None:
    cities = [f"city {n:03}" for n in range(60)] + ["city 007"] * 3 + ["x" * 500]
    await fill(database, list(cities))
    shown = (await read(service, "city"))["slices"]
    assert len(shown["values"]) == slices.MAX_VALUES
    assert (shown["values"][0]["value"], shown["values"][0]["recipients"]["total"]) == ("city 007", 4)
    assert shown["values"][1]["value"] == "(long text)"
    assert (shown["other"]["distinct_values"], shown["other"]["recipients"]["total"]) == (11, 11)
    assert shown["computed"]["recipients"] == 64


async def test_recipients_that_were_withdrawn_are_in_no_slice(service: httpx.AsyncClient, database: Database) -> None:
    key = await fill(database, ["Pune", "Pune"])
    await database.pool.execute("SELECT withdraw_recipients(ARRAY[$1::bigint], ARRAY[1])", key)
    assert (await read(service, "city"))["slices"]["computed"]["recipients"] == 1


async def test_an_unknown_parameter_is_refused_with_the_known_ones(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database, ["Pune"])
    await ingest(database, *decode(make_payload(recipient=1, results={"intent": "paid"})))
    for by in ("town", "", "customer_phone", "results.mood", "intent", "results."):
        answer = await service.get(PATH, params={"by": by})
        assert answer.status_code == 400, by
        assert answer.json()["error"]["message"] == "by: takes one of loan_id, city, results.intent"
    assert (await service.get("/v1/batch-calls/999/outcomes?by=city")).status_code == 404


async def test_a_batch_whose_columns_are_not_known_is_sliced_by_those_its_recipients_came_with(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(database, ["Pune", None])
    await database.pool.execute("UPDATE batches SET is_registered = false, columns = '{}'")
    assert len((await read(service, "city"))["slices"]["values"]) == 2
    refused = await service.get(PATH, params={"by": "town"})
    assert refused.json()["error"]["message"] == "by: takes one of city, loan_id"


async def test_a_slice_that_takes_too_long_is_given_up_with_what_else_to_do(database: Database) -> None:
    await fill(database, ["Pune"])
    slicer = Slicer(database, time_limit_seconds=0.05)
    async with database.pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE recipients IN ACCESS EXCLUSIVE MODE")
        async with database.snapshot() as connection:
            with pytest.raises(UnavailableError, match=r"took longer than 0.05 s.*/recipients and count there"):
                await slicer.slice(connection, BATCH_ID, "city")
    async with database.snapshot() as connection:
        assert (await Slicer(database).slice(connection, BATCH_ID, "city"))["computed"]["recipients"] == 1


async def test_slices_beyond_the_maximum_are_refused_with_the_time_to_retry(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICES_AT_ONCE", 0)
    await fill(database, ["Pune"])
    async with database.snapshot() as connection:
        with pytest.raises(UnavailableError) as refused:
            await Slicer(database).slice(connection, BATCH_ID, "city")
    assert refused.value.headers == {"retry-after": "5"}
