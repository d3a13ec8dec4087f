"""Errors have one shape, wherever they come from, and contain no internals."""

import httpx

from service.store.database import Database
from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook


def assert_problem(answer: httpx.Response, status: int, error_type: str) -> str:
    """Checks the common shape; gives the message."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type"}
    assert body["error"]["type"] == error_type
    message = body["error"]["message"]
    assert isinstance(message, str)
    assert message
    return message


async def test_an_unknown_path_is_not_found(service: httpx.AsyncClient) -> None:
    for path in ("/v1", "/v1/nothing", "/v1/batch-calls/456/nothing", "/webhooks", "/v2/%00"):
        for method in ("GET", "POST", "DELETE"):
            assert "/docs" in assert_problem(await service.request(method, path), 404, "not_found")


async def test_the_root_leads_to_the_console(service: httpx.AsyncClient) -> None:
    answer = await service.get("/", headers={"authorization": "", "host": "elsewhere.example"})
    assert (answer.status_code, answer.headers["location"]) == (307, "/console")
    assert (await service.get("/", follow_redirects=True)).headers["content-type"].startswith("text/html")


async def test_a_wrong_method_is_reported_with_the_right_ones(service: httpx.AsyncClient) -> None:
    for method, path, right in (
        ("GET", "/v1/batch-call", {"POST"}),
        ("POST", "/v1/batch-calls", {"GET", "HEAD"}),
        ("DELETE", "/v1/batch-calls/456", {"GET", "HEAD"}),
        ("GET", "/v1/quarantine/1/replay", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ):
        answer = await service.request(method, path)
        assert "/docs" in assert_problem(answer, 405, "invalid_request")
        assert {word.strip() for word in answer.headers["allow"].split(",")} == right


async def test_a_wrong_method_is_answered_with_all_methods_of_the_path_where_each_has_its_own_handler(
    service: httpx.AsyncClient,
) -> None:
    answer = await service.delete("/v1/batch-calls/456/recipients")
    assert_problem(answer, 405, "invalid_request")
    assert answer.headers["allow"] == "GET, HEAD, PUT"


async def test_a_wrong_parameter_is_reported_in_the_same_shape(service: httpx.AsyncClient) -> None:
    assert "limit" in assert_problem(await service.get("/v1/uploads?limit=0"), 400, "invalid_request")
    assert "state" in assert_problem(await service.get("/v1/uploads?state=lost"), 400, "invalid_request")
    answer = await service.get("/v1/batch-calls/456/outcomes?time_zone=Mars/Olympus")
    assert "time_zone" in assert_problem(answer, 400, "invalid_request")
    answer = await service.get("/v1/batch-calls/456/outcomes?time_zone=../../etc/passwd")
    assert "time_zone" in assert_problem(answer, 400, "invalid_request")


async def test_a_failure_of_ours_shows_nothing_of_the_inside(service: httpx.AsyncClient, database: Database) -> None:
    await database.pool.execute("DROP TABLE unattributed")
    for path in ("/v1/unattributed", "/v1/events/any"):
        answer = await service.get(path)
        message = assert_problem(answer, 500, "internal_error")
        assert answer.headers["connection"] == "close", "which the server does, so nothing may be sent there any more"
        for word in ("unattributed", "relation", "asyncpg", "Error", "Traceback", "SELECT"):
            assert word not in message
    assert (await service.get("/v1/batch-calls")).status_code == 200, "everything else goes on"


async def test_a_webhook_that_cannot_be_stored_because_of_our_failure_is_answered_503(
    start_service: StartService, database: Database
) -> None:
    await database.pool.execute("DROP FUNCTION ingest")
    async with start_service(BacklogLimits(hold_seconds=0.5)) as service:
        answer = await post_webhook(service, make_payload())
        assert "ingest" not in assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert await read_metric(service, "outcomes_webhooks_total", target="default", answer="overloaded") == 1
