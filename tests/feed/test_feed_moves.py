"""A batch id that comes late reaches readers of the feed step by step, each entry once, even after a crash."""

from typing import Any

import pytest

from service.formant.batches import ProviderBatch
from service.store.database import Database
from service.uploads.lookup import UploadFinder, UploadRecovery
from service.uploads.results import record_batch
from tests.factories import AGENT_ID, BATCH_ID, decode, make_payload, store_batch
from tests.webhooks.ingesting import ingest, list_outcomes

ANSWER = ProviderBatch(id=BATCH_ID, agent_id=AGENT_ID, total_recipients=10)


async def store_unanswered(database: Database, called: int) -> int:
    """An upload of ten whose answer has not come, with some called; returns its key."""
    key = await store_batch(database.url, batch_id=None)
    await database.pool.execute("UPDATE batches SET upload_state = 'unknown', next_lookup_at = 'infinity'")
    if called:
        await ingest(database, *decode(*(make_payload(recipient=n + 1) for n in range(called))))
    return key


async def read_versions(database: Database) -> dict[int, int]:
    """Versions by recipient."""
    return {row["recipient_no"]: row["version"] for row in await list_outcomes(database)}


async def count_moves(database: Database) -> Any:
    return await database.pool.fetchval("SELECT count(*) FROM feed_moves")


@pytest.mark.parametrize("at_once", [1, 2, 6, 7, 8, 1000])
async def test_each_entry_is_repeated_once_however_many_a_step_takes(
    database: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("service.uploads.results.MAX_MOVED", at_once)
    key = await store_unanswered(database, called=7)
    before = {row["recipient_no"]: row["position"] for row in await list_outcomes(database)}
    assert await record_batch(database, key, ANSWER)
    assert sorted((await read_versions(database)).values()) == [1] * max(0, 7 - at_once) + [2] * min(7, at_once)
    await UploadRecovery(database, UploadFinder(database, None)).settle()
    assert await read_versions(database) == dict.fromkeys(range(1, 8), 2)
    assert min(row["position"] for row in await list_outcomes(database)) > max(before.values())
    assert await count_moves(database) == 0


async def test_a_change_after_the_id_is_known_is_not_shown_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.uploads.results.MAX_MOVED", 1)
    key = await store_unanswered(database, called=3)
    await record_batch(database, key, ANSWER)
    await ingest(database, *decode(make_payload(recipient=3, attempt=2), make_payload(recipient=9)))
    await UploadRecovery(database, UploadFinder(database, None)).settle()
    assert await read_versions(database) == {1: 2, 2: 2, 3: 2, 9: 1}


async def test_an_answer_that_comes_before_any_call_moves_nothing(database: Database) -> None:
    key = await store_unanswered(database, called=0)
    await record_batch(database, key, ANSWER)
    await ingest(database, *decode(make_payload(recipient=1)))
    assert (await read_versions(database), await count_moves(database)) == ({1: 1}, 0)


async def test_an_answer_to_an_upload_that_waits_for_none_changes_nothing(database: Database) -> None:
    key = await store_unanswered(database, called=2)
    assert await record_batch(database, key, ANSWER)
    assert not await record_batch(database, key, ANSWER)
    assert await read_versions(database) == {1: 2, 2: 2}
