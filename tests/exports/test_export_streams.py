"""Exports as streams: clients that disconnect, stall or are slow; a server that goes away; too many at once."""

import json

import httpx
import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.exports.exported import export, read_ndjson
from tests.exposition import read_metric
from tests.factories import BATCH_ID, make_payload, post_webhook, store_batch

ROWS = 20_000
PATH = f"/v1/batch-calls/{BATCH_ID}/recipients.ndjson"
DEADLINE_SECONDS = 30.0


async def store_large_batch(database: Database) -> None:
    """A batch whose export is some 40 MB: far more than what sockets and buffers take."""
    await store_batch(database.url, ROWS)
    # Of random text, so that Parquet cannot make it small.
    await database.pool.execute(
        "UPDATE batches SET columns = '{customer_phone,text}'; "
        "UPDATE recipients SET parameters = jsonb_build_object('text', "
        "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60) WHERE recipient_no > 0)); ANALYZE"
    )


async def wait_for_backends(database: Database, count: int, *, blocked: bool = False) -> None:
    """Returns once so many exports are connected to the server; ``blocked``: and it waits for them to take more."""
    await eventually(
        lambda: database.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outcomes export' "
            "AND datname = current_database() AND (NOT $1 OR wait_event = 'ClientWrite')",
            blocked,
        ),
        lambda value: value == count,
    )


async def wait_for_ending(
    service: httpx.AsyncClient, ending: str, *, file_format: str = "ndjson", count: int = 1
) -> None:
    """Returns once so many exports have ended so, and left their places."""
    labels = {"name": "recipients", "format": file_format, "ending": ending}
    await eventually(lambda: read_metric(service, "outcomes_exports_total", **labels), lambda value: value >= count)


async def read_rest(answer: httpx.Response) -> bytes:
    return b"".join([chunk async for chunk in answer.aiter_raw()])


@pytest.mark.parametrize("file_format", ["csv", "ndjson", "parquet"])
async def test_a_client_that_hangs_up_frees_the_connection_at_once(
    service: httpx.AsyncClient, database: Database, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.exports.parquet.GROUP_BYTES", 2**20)
    await store_large_batch(database)
    path = PATH.replace("ndjson", file_format)
    async with service.stream("GET", path) as answer:
        assert answer.status_code == 200
        await wait_for_backends(database, 1, blocked=True)  # and so it does not run ahead of its reader
    await wait_for_backends(database, 0)
    await wait_for_ending(service, "disconnected", file_format=file_format)


async def test_a_client_that_takes_nothing_is_broken_off(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.exports.streaming.STALL_SECONDS", 0.3)
    await store_large_batch(database)
    async with service.stream("GET", PATH) as answer:
        await wait_for_ending(service, "stalled")
        await wait_for_backends(database, 0)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read_rest(answer)


async def test_a_client_that_is_too_slow_in_all_is_broken_off(start_service: StartService, database: Database) -> None:
    await store_large_batch(database)
    async with (
        start_service(OUTCOMES_EXPORT_SECONDS="1") as service,
        service.stream("GET", PATH) as answer,
    ):
        await wait_for_ending(service, "too_slow")
        await wait_for_backends(database, 0)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read_rest(answer)


@pytest.mark.parametrize("file_format", ["csv", "ndjson", "parquet"])
async def test_an_export_that_fails_halfway_is_not_taken_for_a_whole_one(
    service: httpx.AsyncClient, database: Database, file_format: str
) -> None:
    await store_large_batch(database)
    async with service.stream("GET", PATH.replace("ndjson", file_format)) as answer:
        await wait_for_backends(database, 1)
        killed = await database.pool.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'outcomes export' AND datname = current_database()"
        )
        assert (killed, answer.status_code) == (1, 200)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read_rest(answer)
    await wait_for_ending(service, "failed", file_format=file_format)


async def test_an_export_shows_one_instant_however_slowly_it_is_read(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.exports.selection.RANGE", 5000)  # of 10 MB: more than what is on its way to a client
    await store_large_batch(database)
    async with service.stream("GET", PATH) as answer:
        await wait_for_backends(database, 1, blocked=True)
        for number in (1, ROWS // 2, ROWS):
            assert (await post_webhook(service, make_payload(recipient=number))).status_code == 204
        rows = [json.loads(line) async for line in answer.aiter_lines()]
    assert [row["recipient"] for row in rows] == list(range(1, ROWS + 1))
    assert {row["state"] for row in rows} == {"in_progress"}
    later = await export(service, PATH, after=ROWS - 1)
    assert read_ndjson(later.content)[0]["state"] == "completed"
    await wait_for_ending(service, "done")


async def test_exports_beyond_the_maximum_are_refused_with_the_time_to_retry(
    start_service: StartService, database: Database
) -> None:
    await store_large_batch(database)
    async with start_service(OUTCOMES_MAX_EXPORTS="2") as service:
        async with service.stream("GET", PATH), service.stream("GET", PATH):
            await wait_for_backends(database, 2, blocked=True)
            refused = await service.get(PATH)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["error"]["type"] == "unavailable"
            assert "OUTCOMES_MAX_EXPORTS" in refused.json()["error"]["message"]
            # What is no export is not held up by them.
            assert (await post_webhook(service, make_payload())).status_code == 204
            assert (await service.get(f"/v1/batch-calls/{BATCH_ID}/outcomes")).status_code == 200
        await wait_for_ending(service, "disconnected", count=2)
        for path in ("/v1/batch-calls/999/recipients.csv", PATH, PATH, PATH):  # none keeps its place
            assert (await service.get(path, params={"until": 1})).status_code in {200, 404}
