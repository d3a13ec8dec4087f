"""Headers that keep browsers and caches from guessing types, framing and storing answers."""

import httpx
import pytest

from service.store.database import Database
from tests.conftest import API_KEY
from tests.factories import make_payload, post_webhook, store_batch
from tests.server.raw_http import connect_raw


def assert_safe(answer: httpx.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/batch-calls", 200),
        ("/v1/batch-calls/456", 200),
        ("/v1/batch-calls/456/recipients", 200),
        ("/v1/batch-calls/456/recipients/1", 200),
        ("/v1/feed", 200),
        ("/v1/events/event", 200),
        ("/v1/unattributed", 200),
        ("/v1/audit", 200),
        ("/v1/events/unknown", 404),
        ("/v1/feed?limit=none", 400),
        ("/nowhere", 404),
        ("/healthz", 200),
        ("/metrics", 200),
    ],
)
async def test_an_answer_is_kept_by_nobody(
    service: httpx.AsyncClient, database_url: str, path: str, status: int
) -> None:
    await store_batch(database_url)
    assert (await post_webhook(service, make_payload(event_id="event"))).status_code == 204
    answer = await service.get(path)
    assert answer.status_code == status
    assert_safe(answer)
    assert answer.headers["cache-control"] == "no-store"


async def test_a_refusal_and_a_failure_of_ours_are_kept_by_nobody_either(
    service: httpx.AsyncClient, database: Database
) -> None:
    await database.pool.execute("DROP TABLE unattributed")
    for answer, status in (
        (await service.get("/v1/feed", headers={"authorization": "Bearer wrong"}), 401),
        (await service.delete("/healthz"), 405),
        (await service.get("/v1/unattributed"), 500),
    ):
        assert answer.status_code == status
        assert_safe(answer)
        assert answer.headers["cache-control"] == "no-store"


async def test_an_answer_with_an_etag_may_be_stored_but_must_be_revalidated(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    for path in ("/v1/batch-calls/456/outcomes", "/v1/batch-calls/456/metrics"):
        answer = await service.get(path)
        same = await service.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (answer.status_code, same.status_code) == (200, 304)
        for each in (answer, same):
            assert_safe(each)
            assert each.headers["cache-control"] == "private, no-cache"


async def test_an_export_says_the_same_and_that_it_is_for_its_reader_alone(
    service: httpx.AsyncClient, database_url: str
) -> None:
    await store_batch(database_url)
    answer = await service.get("/v1/batch-calls/456/recipients.csv")
    assert_safe(answer)
    assert answer.headers["cache-control"] == "private, no-store"


async def test_the_page_has_a_policy_of_its_own(service: httpx.AsyncClient) -> None:
    for path in ("/docs", "/docs/start.js"):
        answer = await service.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert len(answer.headers.get_list("content-security-policy")) == 1


async def test_what_a_browser_could_show_of_the_receiver_and_of_the_server_is_taken_for_nothing_else(
    service: httpx.AsyncClient,
) -> None:
    assert (await service.get("/webhooks/formant")).headers["x-content-type-options"] == "nosniff"
    async with connect_raw(service) as connection:
        await connection.send(f"GET / HTTP/9.9\r\nX: {API_KEY}\r\n\r\n".encode())
        assert b"x-content-type-options: nosniff\r\n" in (await connection.read_answer()).head


async def test_an_extra_slash_redirects_nobody_to_the_requests_host(service: httpx.AsyncClient) -> None:
    for path in ("/v1/batch-calls/", "/docs/", "/healthz/"):
        answer = await service.get(path, headers={"host": "elsewhere.example"})
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert "elsewhere" not in answer.text
