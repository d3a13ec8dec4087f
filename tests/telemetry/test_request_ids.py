"""One id for each request: in its answer, in every log line that is written for it, and in the audit log."""

import asyncio
import signal
from typing import Any

import asyncpg
import httpx
import pytest

from service.store.database import Database
from tests.conftest import StartService
from tests.exposition import read_metric
from tests.factories import make_payload, phone_of, post_webhook, store_batch
from tests.processes import Serving, serve
from tests.provider import connect_provider, upload

GIVEN = "given-by-the-caller-1"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def find(serving: Serving, request_id: str) -> list[dict[str, Any]]:
    return [line for line in serving.log if line.get("request_id") == request_id]


async def read_audit(service: httpx.AsyncClient) -> dict[tuple[str, str], str | None]:
    lines = (await service.get("/v1/audit")).json()["data"]
    return {(line["action"], line["outcome"]): line["request_id"] for line in lines}


async def erase(client: httpx.AsyncClient) -> str:
    """Erases a person; the id of the request that did it. One that is answered 202 was left to the loop beside."""
    for number in range(1, 100):
        request_id = f"of-an-erasure-{number}"
        answer = await client.post("/v1/erasures", json={"phone": phone_of(1)}, headers={"x-request-id": request_id})
        if answer.status_code == 200:
            return request_id
        assert answer.status_code == 202
    raise AssertionError("no erasure was done by its request")


async def test_each_answer_has_an_id_errors_too(service: httpx.AsyncClient) -> None:
    ids = set()
    for path, status in (
        ("/v1/batch-calls", 200), ("/v1/batch-calls/456/outcomes", 404), ("/v1/nothing", 404), ("/healthz", 200),
        ("/v1/uploads?limit=0", 400),
    ):  # fmt: skip
        answer = await service.get(path)
        assert answer.status_code == status
        ids.add(answer.headers["x-request-id"])
    ids.add((await service.get("/v1/batch-calls", headers={"authorization": ""})).headers["x-request-id"])
    ids.add((await service.post("/v1/batch-calls")).headers["x-request-id"])
    assert {len(each) for each in ids} == {32}
    assert len(ids) == 7


async def test_the_callers_own_id_comes_back(service: httpx.AsyncClient) -> None:
    for headers, expected in (
        ({"x-request-id": GIVEN}, GIVEN),
        ({"x-request-id": GIVEN, "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, TRACE_ID),
    ):
        answer = await service.get("/v1/batch-calls", headers=headers)
        assert answer.headers["x-request-id"] == expected
        refused = await post_webhook(service, make_payload(), secret="wrong", **headers)
        assert (refused.status_code, refused.headers["x-request-id"]) == (401, expected)
    answer = await service.get("/v1/batch-calls", headers={"x-request-id": phone_of(1)})
    assert phone_of(1)[1:] not in answer.headers["x-request-id"]


async def test_a_refused_webhook_is_reported_with_an_id_and_an_accepted_one_needs_none(
    service: httpx.AsyncClient,
) -> None:
    assert "x-request-id" not in (await post_webhook(service, make_payload())).headers
    for answer in (
        await post_webhook(service, make_payload(), secret="wrong"),
        await post_webhook(service, make_payload(), path="/webhooks/formant/nobody"),
        await service.get("/webhooks/formant"),
    ):
        assert len(answer.headers["x-request-id"]) == 32


async def test_every_line_that_is_written_for_a_request_has_its_id(database_url: str) -> None:
    await store_batch(database_url)
    connection = await asyncpg.connect(database_url)
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        erasure_id = await erase(serving.client)
        await connection.execute("DROP TABLE unattributed")
        headers = {"x-request-id": "of-a-failure-1"}
        assert (await serving.client.get("/v1/unattributed", headers=headers)).status_code == 500
        path = "/v1/batch-calls/456/recipients/2"
        assert (await serving.client.get(path, headers={"x-request-id": "of-a-read-1"})).status_code == 200
        headers = {"x-request-id": "of-nobody-1", "authorization": "Bearer wrong"}
        assert (await serving.client.get(path, headers=headers)).status_code == 401
        for probe in ("/healthz", "/readyz", "/metrics"):
            assert (await serving.client.get(probe, headers={"x-request-id": "of-a-probe-1"})).status_code == 200
        assert await serving.end(signal.SIGTERM) == 0
    await connection.close()
    erased = [line["event"] for line in find(serving, erasure_id)]
    assert erased in (["person_erased", "request"], ["request"])  # the task that finishes erasures may come first
    failed, request = (line for line in find(serving, "of-a-failure-1") if line["event"] != "library_warning")
    assert (failed["event"], failed["level"], request["status"]) == ("request_failed", "error", 500)
    (read,) = find(serving, "of-a-read-1")
    assert read.pop("timestamp")
    assert read.pop("duration_ms") > 0
    assert read == {
        "event": "request", "level": "info", "request_id": "of-a-read-1", "method": "GET", "status": 200,
        "route": "/v1/batch-calls/{batch_id}/recipients/{recipient}", "actor": "setting", "key_id": None,
    }  # fmt: skip
    (refused,) = find(serving, "of-nobody-1")
    assert (refused["status"], "actor" in refused) == (401, False), "the actor of an earlier request"
    assert find(serving, "of-a-probe-1") == []


async def test_refused_webhooks_are_reported_a_few_times_a_second_and_their_events_by_id(database_url: str) -> None:
    await store_batch(database_url)
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        refusals = [post_webhook(serving.client, make_payload(), secret="wrong") for _ in range(20)]
        answers = await asyncio.gather(*refusals)
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert (await post_webhook(serving.client, make_payload(), path="/webhooks/formant/x")).status_code == 404
        for body in (
            make_payload(event_id="once-1"), make_payload(event_id="once-1", status="busy"),
            make_payload(event_id="stray-1", recipient=None, phone="+19999999999"),
            make_payload(event_id="+19999999999", recipient=None, phone="+19999999999"),
            {"event_id": "unreadable-1"},
        ):  # fmt: skip
            assert (await post_webhook(serving.client, body)).status_code == 204
        assert await serving.end(signal.SIGTERM) == 0
    refused = [line for line in serving.log if line["event"] == "webhook_refused"]
    (unknown,) = (line for line in refused if line["reason"] == "not_found")
    assert (unknown["status"], unknown["target"]) == (404, "unknown")
    wrong = [line for line in refused if line["reason"] == "authentication_error"]
    assert 3 <= len(wrong) < 20
    for line in wrong:
        assert (line["level"], line["status"], line["target"]) == ("warning", 401, "default")
        assert line["request_id"] in ids
    named = {(line["event"], line["event_id"], line["reason"]) for line in serving.log if "event_id" in line}
    assert named == {
        ("event_conflict", "once-1", None), ("event_unattributed", "stray-1", "no_batch"),
        ("event_unattributed", "(withheld)", "no_batch"), ("event_quarantined", "unreadable-1", "missing_field"),
    }  # fmt: skip


async def test_lines_of_the_audit_log_have_the_id_of_their_request(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, _):
        service.headers["x-request-id"] = "of-the-upload-1"
        assert (await upload(service)).status_code == 200
        service.headers["x-request-id"] = "of-the-erasure-1"
        assert (await service.post("/v1/erasures", json={"phone": "+919876543210"})).status_code == 200
        del service.headers["x-request-id"]
        await database.pool.execute(
            "INSERT INTO audit_log (actor, action, subject, outcome) VALUES ('service', 'by', 'it', 'self')"
        )
        assert await read_audit(service) == {
            ("columns_changed", "changed"): "of-the-upload-1",
            ("upload", "prepared"): "of-the-upload-1",
            ("upload", "uploaded"): "of-the-upload-1",
            ("erasure", "erased"): "of-the-erasure-1",
            ("by", "self"): None,
        }


@pytest.mark.parametrize("path", ["/v1/nothing/+919876543210", "/v1/batch-calls/+919876543210/outcomes"])
async def test_metrics_know_routes_and_no_paths(service: httpx.AsyncClient, path: str) -> None:
    status = str((await service.get(path)).status_code)
    route = "unknown" if "nothing" in path else "/v1/batch-calls/{batch_id}/outcomes"
    labels = {"method": "GET", "route": route, "status": status}
    assert await read_metric(service, "outcomes_http_requests_total", **labels) == 1
    assert await read_metric(service, "outcomes_http_request_seconds_count", route=route) == 1
    assert "9876543210" not in (await service.get("/metrics")).text
