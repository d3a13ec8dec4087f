"""The feed over HTTP: a snapshot, then the tail, whole entries, and errors for invalid requests."""

from typing import Any

import httpx
import pytest

from service.formant.batches import ProviderBatch
from service.store.database import Database
from service.uploads.results import record_batch
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, decode, make_payload, phone_of, post_webhook, store_batch
from tests.feed.feeding import read_on, read_page
from tests.webhooks.ingesting import ingest


async def test_an_entry_shows_the_recipient_and_its_latest_state(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    await ingest(
        database,
        *decode(
            make_payload(recipient=2, attempt=1, status="busy", final=False, conversation_id="c_1"),
            make_payload(recipient=2, attempt=2, conversation_id="c_2", results={"intent": "paid"}),
        ),
    )
    (entry,) = await read_on(service)
    position = entry.pop("position")
    assert position > 0
    assert entry == {
        "batch_id": BATCH_ID,
        "recipient": 2,
        "phone": phone_of(2),
        "parameters": {"loan_id": "LN-2"},
        "state": "completed",
        "status": "completed",
        "is_final": True,
        "attempts": 2,
        "duration_seconds": 62,
        "results": {"intent": "paid"},
        "failure_reason": None,
        "next_retry_at": None,
        "last_attempt_at": BEGAN.replace(hour=12).isoformat().replace("+00:00", "Z"),
        "conversation_id": "c_2",
        "source": "webhook",
        "version": 1,
        "goal_met": None,
        "callbacks": None,
    }
    assert await read_page(service, after=position) == {"data": [], "next": position, "has_more": False}


async def test_an_empty_feed_goes_on_from_where_it_was_asked(service: httpx.AsyncClient) -> None:
    assert await read_page(service) == {"data": [], "next": 0, "has_more": False}


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_it_is_a_snapshot_and_then_the_tail(service: httpx.AsyncClient, database: Database, limit: int) -> None:
    await store_batch(database.url)
    for recipient in (3, 1, 2):
        await ingest(database, *decode(make_payload(recipient=recipient, status="busy", final=False)))
    first = await read_page(service, limit=limit)
    await ingest(database, *decode(make_payload(recipient=3, attempt=2), make_payload(recipient=4)))
    entries = first["data"] + await read_on(service, first["next"], limit)
    positions = [entry["position"] for entry in entries]
    assert positions == sorted(set(positions))
    latest = {entry["recipient"]: (entry["state"], entry["attempts"], entry["version"]) for entry in entries}
    waits = ("pending_retry", 1, 1)
    assert latest == {1: waits, 2: waits, 3: ("completed", 2, 2), 4: ("completed", 1, 1)}


async def test_a_full_page_knows_whether_there_is_more(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(*(make_payload(recipient=recipient) for recipient in (1, 2, 3))))
    assert [(await read_page(service, limit=limit))["has_more"] for limit in (2, 3, 4)] == [True, False, False]


async def test_a_page_ends_where_it_would_get_too_large_but_has_at_least_one_entry(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_batch(database.url)
    sizes = {1: 10, 2: 3000, 3: 10, 4: 10, 5: 3000}
    for recipient, size in sizes.items():
        await ingest(database, *decode(make_payload(recipient=recipient, results={"note": "x" * size})))
    monkeypatch.setattr("service.feed.feed.MAX_PAGE_BYTES", 1000)
    pages: list[list[int]] = []
    after, has_more = 0, True
    while has_more:
        page = await read_page(service, after=after)
        pages.append([entry["recipient"] for entry in page["data"]])
        after, has_more = page["next"], page["has_more"]
    assert pages == [[1, 2], [3, 4, 5]]


async def test_a_withdrawn_recipient_has_an_entry(service: httpx.AsyncClient, database: Database) -> None:
    key = await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1), make_payload(recipient=2)))
    (end,) = [entry["position"] for entry in await read_on(service)][1:]
    await database.pool.execute("SELECT withdraw_recipients(ARRAY[$1::bigint], ARRAY[1])", key)
    (entry,) = await read_on(service, end)
    assert (entry["recipient"], entry["state"], entry["version"]) == (1, "withdrawn", 2)
    assert (entry["status"], entry["attempts"], entry["results"], entry["is_final"]) == (None, 0, None, False)
    assert (entry["phone"], entry["parameters"]) == (phone_of(1), {"loan_id": "LN-1"})


async def test_an_entry_of_an_erased_recipient_contains_nothing_personal(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1), make_payload(recipient=2)))
    (end,) = [entry["position"] for entry in await read_on(service)][1:]
    await database.pool.execute(
        "UPDATE outcomes SET state = 'erased', position = nextval('feed_positions'), version = version + 1 "
        "WHERE recipient_no = 1"
    )
    (entry,) = await read_on(service, end)
    assert (entry["recipient"], entry["state"], entry["version"]) == (1, "erased", 2)
    assert (entry["phone"], entry["parameters"], entry["results"]) == (None, {}, None)
    shown = (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients/1")).json()["data"]
    assert (shown["phone"], shown["parameters"], shown["results"]) == (None, {}, None)


async def test_an_entry_outlives_the_row_of_its_recipient(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1)))
    await database.pool.execute("DELETE FROM recipients")
    (entry,) = await read_on(service)
    assert (entry["recipient"], entry["phone"], entry["parameters"]) == (1, None, {})


async def test_a_recipient_shows_the_same_here_and_in_its_batch(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1, status="busy", final=False)))
    (entry,) = await read_on(service)
    (row, *_) = (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients")).json()["data"]
    del entry["position"]
    assert entry == {name: row[name] for name in entry}


async def test_calls_of_a_batch_without_a_known_id_have_entries_at_once_and_again_with_the_id(
    service: httpx.AsyncClient, database: Database
) -> None:
    key = await store_batch(database.url, batch_id=None)
    await database.pool.execute("UPDATE batches SET upload_state = 'uploading', leased_until = 'infinity'")
    await post_webhook(service, make_payload(recipient=1))
    (early,) = await read_on(service)
    assert (early["batch_id"], early["recipient"], early["phone"]) == (None, 1, phone_of(1))
    batch = ProviderBatch(id=BATCH_ID, name="", agent_id=AGENT_ID, status="pending", total_recipients=10)
    assert await record_batch(database, key, batch)
    await post_webhook(service, make_payload(recipient=2))
    again, other = await read_on(service, early["position"])
    assert (again["batch_id"], again["recipient"], again["version"]) == (BATCH_ID, 1, 2)
    assert {**again, "position": 0, "batch_id": 0, "version": 0} == {
        **early,
        "position": 0,
        "batch_id": 0,
        "version": 0,
    }
    assert (other["batch_id"], other["recipient"], other["version"]) == (BATCH_ID, 2, 1)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"after": -1}, "after"),
        ({"after": "x"}, "after"),
        ({"after": 2**63}, "after"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"wait": 31}, "wait"),
        ({"wait": "0.5"}, "wait"),
        ({"after": 0, "consumer": "crm"}, "after"),
        ({"consumer": "no name"}, "consumer"),
    ],
)
async def test_what_cannot_be_asked_names_the_parameter(
    service: httpx.AsyncClient, params: dict[str, Any], name: str
) -> None:
    answer = await service.get("/v1/feed", params=params)
    assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, name)
    assert answer.json()["error"]["type"] == "invalid_request"


async def test_a_reader_beyond_the_end_gets_an_error_instead_of_waiting(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    await post_webhook(service, make_payload())
    (entry,) = await read_on(service)
    answer = await service.get("/v1/feed", params={"after": entry["position"] + 1, "wait": 30})
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "conflict")
    assert "beyond the end" in answer.json()["error"]["message"]


async def test_it_takes_a_key(service: httpx.AsyncClient) -> None:
    for path in ("/v1/feed", "/v1/feed/consumers", "/v1/feed/consumers/crm"):
        assert (await service.get(path, headers={"authorization": ""})).status_code == 401
