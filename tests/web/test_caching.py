"""ETags: the same as long as the answer is the same, as_of apart, and never a 304 for what has changed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.privacy.erasure import Eraser
from service.store.database import Database, connect, load_queries
from tests.factories import BATCH_ID, BEGAN, decode, make_payload, phone_of, post_webhook, store_batch
from tests.webhooks.ingesting import ingest

OUTCOMES = f"/v1/batch-calls/{BATCH_ID}/outcomes"
METRICS = f"/v1/batch-calls/{BATCH_ID}/metrics"
WRITERS, EVENTS = 3, 60


async def ask(service: httpx.AsyncClient, path: str, etag: str, **params: str) -> int:
    answer = await service.get(path, params=params, headers={"if-none-match": etag})
    if answer.status_code == 304:
        assert (answer.content, answer.headers["etag"]) == (b"", etag)
    assert answer.headers["cache-control"] == "private, no-cache"
    return answer.status_code


@pytest.mark.parametrize("path", [OUTCOMES, METRICS])
async def test_an_answer_holds_until_it_changes(service: httpx.AsyncClient, database: Database, path: str) -> None:
    await store_batch(database.url)
    payload = make_payload(recipient=1)
    await post_webhook(service, payload)
    first = await service.get(path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    assert await ask(service, path, etag) == 304
    await post_webhook(service, payload)  # a duplicate
    for known in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = await service.get(path, headers={"if-none-match": known})
        assert answer.status_code == 304, known
    await post_webhook(service, make_payload(recipient=2))
    assert await ask(service, path, etag) == 200
    assert (await service.get(path)).headers["etag"] != etag


async def test_an_unknown_batch_is_not_found_whatever_the_client_has_cached(service: httpx.AsyncClient) -> None:
    for path in (OUTCOMES, METRICS):
        assert (await service.get(path, headers={"if-none-match": "*"})).status_code == 404


async def test_another_question_has_another_etag(service: httpx.AsyncClient, database: Database) -> None:
    await store_batch(database.url)
    asked = [{}, {"time_zone": "Asia/Kolkata"}, {"by": "loan_id"}]
    etags = [(await service.get(OUTCOMES, params=params)).headers["etag"] for params in asked]
    assert len(set(etags)) == 3
    for params, etag in zip(asked, etags, strict=True):
        assert [await ask(service, OUTCOMES, other, **params) for other in etags].count(304) == 1
        assert await ask(service, OUTCOMES, etag, **params) == 304


Change = Callable[[Database, int], Awaitable[Any]]


def statement(text: str) -> Change:
    return lambda database, key: database.pool.execute(text.replace("$KEY", str(key)))


def change_counters(database: Database, key: int) -> Awaitable[Any]:
    """As a rebuild does it."""
    columns = {"a": ["busy"], "b": ["1"], "c": ["webhook"], "recipients": [1], "talked": [0], "talk_seconds": [0]}
    recorded = {"actor": "test", "key_id": None, "outcome": "corrected", "details": "{}"}
    return load_queries().rebuild_counters(  # type: ignore[no-any-return]
        database.pool, batch_key=key, counters=["outcome_counts"], **columns, **recorded
    )


async def erase_a_person(database: Database, key: int) -> None:
    """As the service does it, to the end."""
    eraser = Eraser(database)
    await eraser.finish(await eraser.begin(phone_of(1)))


CHANGES: dict[str, Change] = {
    "an event": lambda database, key: ingest(database, *decode(make_payload(recipient=2, status="busy"))),
    "an event that decides nothing": lambda database, key: ingest(
        database, decode(make_payload(recipient=1, attempt=1, began=BEGAN))[0]._replace(received_at=BEGAN.replace(2027))
    ),
    "recipients taken out": statement("SELECT withdraw_recipients(ARRAY[$KEY::bigint], ARRAY[1])"),
    "counters corrected": change_counters,
    "a person erased": erase_a_person,
    "its name": statement("UPDATE batches SET name = 'other' WHERE batch_key = $KEY"),
    "its status": statement("UPDATE batches SET status = 'done' WHERE batch_key = $KEY"),
    "the provider's total": statement("UPDATE batches SET total_recipients = 11 WHERE batch_key = $KEY"),
    "its verdict": statement(
        "INSERT INTO batch_schedules (batch_key, due_at, verdict) VALUES ($KEY, now(), 'drifted')"
    ),
    "a comparison": statement(
        "INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences, "
        "inconsistencies, calls_spent, healed) VALUES ($KEY, now(), now(), 'open', '[]', '[]', '[]', 0, 0)"
    ),
    "the other batch of its campaign": statement("UPDATE batches SET total_recipients = 7 WHERE batch_id = 457"),
    "an event of that": lambda database, key: ingest(
        database, *decode(make_payload(recipient=1, ref_token="sibling", event_id="sibling"))
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_whatever_changes_the_answer_changes_its_etag(
    service: httpx.AsyncClient, database: Database, name: str
) -> None:
    key = await store_batch(database.url)
    await store_batch(database.url, batch_id=457, ref_token="sibling", first_phone=100)
    await database.pool.execute(
        "UPDATE batches SET campaign_key = $1, campaign_role = CASE batch_id WHEN 456 THEN 'main' ELSE 'test' END", key
    )
    await ingest(database, *decode(make_payload(recipient=1), make_payload(recipient=2, ref_token="sibling")))
    before = await service.get(OUTCOMES)
    await CHANGES[name](database, key)
    assert await ask(service, OUTCOMES, before.headers["etag"]) == 200
    after = await service.get(OUTCOMES)
    assert after.headers["etag"] != before.headers["etag"]
    assert without_time(after) != without_time(before), "the change is to be one that a reader sees"


async def test_a_retry_that_becomes_overdue_changes_the_etag_though_nothing_was_written(database: Database) -> None:
    key = await store_batch(database.url)
    await ingest(database, *decode(make_payload(recipient=1, status="busy", final=False)))
    due = BEGAN + timedelta(hours=2, seconds=62)

    async def version(minutes: float) -> str:
        moment = due.replace(second=0) + timedelta(minutes=minutes)
        found: str = await database.pool.fetchval("SELECT batch_version($1, $2)", key, moment)
        return found

    assert await version(-0.9) == await version(-0.1) == await version(-50)
    assert await version(0.9) == await version(0)  # its minute has not passed
    assert await version(-500) == await version(-60)  # due in an hour and more
    assert len({await version(-60), await version(-59), await version(1)}) == 3
    assert await version(1) == await version(500)


def without_time(answer: httpx.Response) -> dict[str, Any]:
    """The answer, as_of apart."""
    data: dict[str, Any] = answer.json()["data"]
    return {name: value for name, value in data.items() if name != "as_of"}


@pytest.mark.parametrize("path", [OUTCOMES, METRICS])
async def test_writers_that_write_meanwhile_never_get_a_304_for_changed_content(
    service: httpx.AsyncClient, database: Database, path: str
) -> None:
    await store_batch(database.url, WRITERS * EVENTS)
    writers = [await connect(database.url) for _ in range(WRITERS)]
    committed = 0
    bodies: dict[str, dict[str, Any]] = {}

    async def write(number: int) -> None:
        nonlocal committed
        for n in range(EVENTS):
            event = decode(make_payload(recipient=number * EVENTS + n + 1))[0]
            await load_queries().ingest(writers[number], **{name: [value] for name, value in event._asdict().items()})
            committed += 1

    def count(body: dict[str, Any]) -> int:
        found: int = body["total_processed"] if path == METRICS else body["recipients"]["processed"]
        return found

    async def follow(writing: asyncio.Future[Any]) -> int:
        etag = ""
        while True:
            is_last, at_least = writing.done(), committed
            answer = await service.get(path, headers={"if-none-match": etag} if etag else {})
            if answer.status_code == 304:
                assert count(bodies[etag]) >= at_least, "a 304 for what had changed before it was asked"
            else:
                assert answer.headers["etag"] != etag, "a 200 for what has not changed"
                etag = answer.headers["etag"]
                assert bodies.setdefault(etag, without_time(answer)) == without_time(answer), "one ETag, two answers"
                assert count(bodies[etag]) >= at_least
            if is_last:
                return count(bodies[etag])

    writing = asyncio.gather(*(write(number) for number in range(WRITERS)))
    seen = await asyncio.gather(*(follow(writing) for _ in range(3)))
    await writing
    assert seen == [WRITERS * EVENTS] * 3
    assert len(bodies) > 5
    last = (await service.get(path)).headers["etag"]
    assert await ask(service, path, last) == 304
    for writer in writers:
        await writer.close()
