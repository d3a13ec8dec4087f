"""The sandbox's conversations, limits, errors and witness, over real HTTP and without webhooks."""

import contextlib
import io
import wave
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from service.sandbox import RunningClock, SandboxOptions, SteppedClock, sample_contacts, serve_sandbox
from service.sandbox.clock import Clock
from service.sandbox.sandbox import Sandbox

CONTACTS = sample_contacts(60, seed=2)
PHONE = "+919876543210"
KEY = {"Authorization": "Bearer sandbox-key"}


@contextlib.asynccontextmanager
async def connect(clock: Clock | None = None, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Sandbox]]:
    settings = SandboxOptions(**{"seed": 1, "rate_limit": 10_000, **options})
    async with (
        serve_sandbox(settings, clock=clock or SteppedClock()) as running,
        httpx.AsyncClient(base_url=running.base_url, headers=KEY) as client,
    ):
        yield client, running.sandbox


async def upload(client: httpx.AsyncClient, contacts: str = CONTACTS, agent_id: int = 1) -> int:
    form = {"agent_id": str(agent_id), "name": "March"}
    answer = await client.post("/v1/batch-call", data=form, files={"file": ("c.csv", contacts.encode())})
    answer.raise_for_status()
    batch_id: int = answer.json()["data"]["id"]
    return batch_id


async def play(client: httpx.AsyncClient, sandbox: Sandbox, contacts: str = CONTACTS, agent_id: int = 1) -> int:
    batch_id = await upload(client, contacts, agent_id)
    await sandbox.wait_until_done(batch_id)
    return batch_id


async def read_all(client: httpx.AsyncClient, limit: int, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = (await client.get(f"/v1/conversations?limit={limit}&offset={len(found)}{query}")).json()
        found += page["data"]
        if not page["has_more"]:
            assert page["total"] == len(found)
            return found


async def test_every_attempt_has_a_conversation_and_the_pages_show_each_once_newest_first() -> None:
    async with connect() as (client, sandbox):
        batch_id = await play(client, sandbox)
        other_id = await play(client, sandbox, sample_contacts(5, seed=9), agent_id=2)
        expected = {
            attempt["conversation_id"]
            for batch in (batch_id, other_id)
            for recipient in sandbox.recipients(batch)
            for attempt in recipient["attempts"]
        }
        found = await read_all(client, 7)
        assert {conversation["conversation_id"] for conversation in found} == expected
        assert len(found) == len(expected) > 60
        agents = [conversation["agent_id"] for conversation in found]
        assert agents == sorted(agents, reverse=True)
        assert {c["agent_id"] for c in await read_all(client, 100, "&agent_id=2")} == {2}


async def test_a_conversation_has_exactly_the_fields_of_the_contract() -> None:
    script = {PHONE: ("busy", "completed")}
    async with connect(script=script) as (client, sandbox):
        batch_id = await play(client, sandbox, f"customer_phone,customer_name\n{PHONE},Rahul\n")
        (truth,) = sandbox.recipients(batch_id)
        completed, busy = (await client.get("/v1/conversations")).json()["data"]
        details = (await client.get(f"/v1/conversations/{completed['conversation_id']}")).json()["data"]
        audio = await client.get(f"/v1/conversations/{completed['conversation_id']}/recording")
        no_audio = await client.get(f"/v1/conversations/{busy['conversation_id']}/recording")
    times = {"duration_seconds", "end_timestamp", "start_timestamp"}
    summary = {"agent_id", "contact_number", "conversation_id", "status"} | times
    assert set(completed) == set(busy) == summary
    assert set(details) == summary | {"failure_reason", "results", "trace_id", "transcript"}
    assert details["contact_number"] == PHONE
    assert completed["end_timestamp"] - completed["start_timestamp"] == 1000 * completed["duration_seconds"]
    started_at = datetime.fromisoformat(truth["attempts"][1]["started_at"])
    assert completed["start_timestamp"] == round(started_at.timestamp() * 1000)
    assert (busy["status"], busy["duration_seconds"], busy["end_timestamp"]) == ("busy", None, None)
    assert {line["role"] for line in details["transcript"]} == {"BOT", "HUMAN"}
    assert "Rahul" in details["transcript"][0]["message"]
    assert audio.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(audio.content)) as sound:
        assert sound.getnframes() > 0
    assert (no_audio.status_code, no_audio.json()["error"]["type"]) == (404, "not_found")


async def test_attempts_of_a_recipient_can_share_one_conversation_id() -> None:
    for ids, distinct in (("per-attempt", 3), ("per-recipient", 1)):
        async with connect(conversation_ids=ids, script={PHONE: ("busy",)}) as (client, sandbox):
            await play(client, sandbox, f"customer_phone\n{PHONE}\n")
            found = await read_all(client, 20)
        assert len(found) == 3
        assert len({conversation["conversation_id"] for conversation in found}) == distinct


async def test_ongoing_calls_are_listed_only_on_request() -> None:
    for shown, statuses in (("ended", []), ("all", ["in_progress"])):
        async with connect(SteppedClock(allowance=0), conversations_shown=shown, script={PHONE: ("completed",)}) as (
            client,
            sandbox,
        ):
            await upload(client, f"customer_phone\n{PHONE}\n")
            await sandbox.advance(4)
            found = await read_all(client, 20)
        assert [conversation["status"] for conversation in found] == statuses
        assert all(conversation["end_timestamp"] is None for conversation in found)


@pytest.mark.parametrize("path", ["/v1/batch-calls", "/v1/conversations"])
@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "offset=-1", "agent_id=x"])
async def test_paging_out_of_range_is_an_invalid_request(path: str, query: str) -> None:
    async with connect() as (client, _):
        answer = await client.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")


async def test_every_error_has_the_providers_shape_and_the_limits_headers() -> None:
    async with connect(api_keys=("one", "two")) as (client, _):
        for method, path, key, status, kind in (
            ("GET", "/v1/batch-calls", "Bearer sandbox-key", 401, "authentication_error"),
            ("GET", "/v1/batch-calls", "one", 401, "authentication_error"),
            ("GET", "/v1/batch-calls", "Basic one", 401, "authentication_error"),
            ("GET", "/v1/nothing", "Bearer two", 404, "not_found"),
            ("GET", "/nothing", "", 404, "not_found"),
            ("GET", "/v1/conversations/none", "Bearer one", 404, "not_found"),
            ("DELETE", "/v1/batch-calls", "Bearer two", 405, "invalid_request"),
        ):
            answer = await client.request(method, path, headers={"Authorization": key})
            assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
            assert set(answer.json()) == {"error"}
            assert set(answer.json()["error"]) == {"message", "type"}
            assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= set(answer.headers)


async def test_a_request_over_the_limit_is_refused_with_retry_after() -> None:
    async with connect(rate_limit=2, rate_window_real_seconds=3600, api_keys=("one", "two")) as (client, _):
        answers = [await client.get("/v1/batch-calls", headers={"Authorization": "Bearer one"}) for _ in range(3)]
        other = await client.get("/v1/batch-calls", headers={"Authorization": "Bearer two"})
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[0].headers["X-RateLimit-Limit"] == "2"
    assert datetime.fromisoformat(answers[2].headers["X-RateLimit-Reset"]).tzinfo is not None
    assert 3500 < int(answers[2].headers["Retry-After"]) <= 3600
    assert answers[2].json()["error"]["type"] == "rate_limit_exceeded"
    assert other.status_code == 200


async def test_the_witness_answers_without_a_key() -> None:
    async with connect() as (client, sandbox):
        batch_id = await play(client, sandbox)
        async with httpx.AsyncClient(base_url=client.base_url) as stranger:
            log = (await stranger.get("/sandbox/log")).json()["data"]
            page = (await stranger.get(f"/sandbox/batches/{batch_id}/recipients?limit=10&offset=55")).json()
            done = (await stranger.get(f"/sandbox/wait?batch_id={batch_id}")).json()["data"]
            guide = await stranger.get("/sandbox")
    rows = list(sandbox.recipients(batch_id))
    assert page == {"data": rows[55:], "has_more": False, "total": 60}
    assert rows[0]["call_parameters"]["loan_id"].startswith("LN-")
    dials = {recipient["phone"]: len(recipient["attempts"]) for recipient in rows}
    assert log["dials_by_batch_and_phone"] == {str(batch_id): dials}
    assert log["dials"] == log["events"] == sum(dials.values())
    assert done == {"batch_id": batch_id, "done": True}
    assert "/sandbox/wait" in guide.text


async def test_waiting_ends_with_done_false_at_the_timeout() -> None:
    async with connect(SteppedClock(allowance=0)) as (client, _):
        batch_id = await upload(client)
        assert (await client.get(f"/sandbox/wait?batch_id={batch_id}&timeout=0")).json()["data"]["done"] is False


async def test_faults_are_changed_by_name_and_nothing_else_is_accepted() -> None:
    async with connect() as (client, sandbox):
        changed = (await client.post("/sandbox/faults", json={"drop": 0.5, "next_upload": "500"})).json()["data"]
        assert (changed["drop"], changed["next_upload"], changed["delay"]) == (0.5, "500", 0.0)
        assert changed == (await client.get("/sandbox/faults")).json()["data"]
        wrong: Any
        for wrong in ({"drop": 2}, {"dorp": 0.5}, {"next_upload": "418"}, 5):
            answer = await client.post("/sandbox/faults", json=wrong)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
        assert sandbox.faults.drop == 0.5
        await client.post("/sandbox/faults", json={"outage_seconds": 60})
        assert sandbox.faults.is_out(sandbox.now())


async def test_a_running_clock_plays_hours_of_calls_in_a_moment() -> None:
    async with connect(RunningClock(speed=1e6)) as (client, sandbox):
        batch_id = await play(client, sandbox)
        figures = sandbox.figures(batch_id)
    assert figures["total_processed"] == 60
    assert figures["avg_duration_seconds"] > 30
