"""The provider refuses an upload, fails or does not answer: the state is reported, and nobody is dialled twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from service.errors import ProviderError
from service.formant.client import FormantClient
from service.formant.regions import Regions
from service.sandbox import sample_contacts
from service.sandbox.faults import UploadFault
from service.sandbox.serving import serve_app
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lookup import UploadFinder
from service.uploads.sending import Sender
from service.uploads.storing import UploadRequest
from service.uploads.uploader import Uploader
from tests.conftest import StartService
from tests.exposition import read_metric
from tests.provider import CONTACTS, KEY, connect_provider, count_uploads, find_free_port, upload

REFUSALS: dict[UploadFault, tuple[int, str]] = {
    "400": (400, "invalid_request"),
    "401": (502, "authentication_error"),  # our caller's key is fine, so it gets no 401
    "404": (404, "not_found"),
    "429": (429, "rate_limit_exceeded"),
}
LOST: dict[UploadFault, int] = {
    "409": 0,
    "408": 0,
    "425": 0,
    "499": 0,
    "proxy_429": 0,
    "accepted_408": 1,
    "accepted_409": 1,
    "accepted_499": 1,
    "500": 0,
    "accepted_500": 1,
    "lost_answer": 1,
    "refused_after_body": 0,
}


async def read_upload(service: httpx.AsyncClient, state: str | None = None) -> dict[str, Any]:
    """The latest upload, or the latest in a state."""
    rows = (await service.get("/v1/uploads", params={"state": state} if state else {})).json()["data"]
    assert isinstance(rows[0], dict)
    return rows[0]


async def test_a_refusal_is_handed_on_and_the_upload_has_failed(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for fault, expected in REFUSALS.items():
            with subtests.test(fault):
                sandbox.sandbox.faults.next_upload = fault
                answer = await upload(service)
                error = answer.json()["error"]
                assert (answer.status_code, error["type"]) == expected
                assert f"next_upload {fault}" in error["message"], "the provider's own words are part of the message"
                assert ("FORMANT_API_KEY" in error["message"]) == (fault == "401")
                assert answer.headers.get("retry-after") == ("1" if fault == "429" else None)
                row = await read_upload(service)
                assert (row["state"], row["batch_id"], row["recipients"]) == ("failed", None, 2)
                assert row["detail"] in error["message"]
                assert f"upload {row['upload_id']} is failed" in error["message"]
                labels = {"operation": "upload_batch", "status": fault}
                assert await read_metric(service, "outcomes_provider_calls_total", **labels) == 1
        assert count_uploads(sandbox) == (0, len(REFUSALS)), "each was sent once"
        assert (await service.get("/v1/batch-calls")).json()["data"] == []
        assert (await upload(service)).status_code == 200, "the caller may try again"


async def test_an_upload_whose_answer_says_nothing_certain_is_unknown_and_is_not_sent_again(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for fault in LOST:
            with subtests.test(fault):
                before = sum(count_uploads(sandbox))
                sandbox.sandbox.faults.next_upload = fault
                answer = await upload(service, name=f"March {fault}", force="true")  # those before are in doubt
                assert (answer.status_code, answer.json()["error"]["type"]) == (504, "upload_unknown")
                assert "dashboard" in answer.json()["error"]["message"]
                row = await read_upload(service)
                assert (row["state"], row["batch_id"]) == ("unknown", None)
                assert f"upload {row['upload_id']} is unknown" in answer.json()["error"]["message"]
                assert await read_upload(service, "unknown") == row
                assert sum(count_uploads(sandbox)) == before + 1, "sent once"
        assert count_uploads(sandbox) == (sum(LOST.values()), len(LOST) - sum(LOST.values()))
        assert (await service.get("/v1/uploads", params={"state": "failed"})).json()["data"] == []


@pytest.mark.parametrize("fault", ["accepted_500", "lost_answer"])
async def test_webhooks_of_an_unknown_upload_that_was_taken_find_their_recipients_by_reference(
    start_service: StartService, database: Database, fault: UploadFault
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = fault
        assert (await upload(service, sample_contacts(20, seed=2))).status_code == 504
        await sandbox.sandbox.wait_until_done(456)
        attempts = [(row["row"] + 1, attempt) for row in sandbox.sandbox.recipients(456) for attempt in row["attempts"]]
        assert len(attempts) > 20
        for recipient, attempt in attempts:
            event = (await service.get(f"/v1/events/{attempt['event_id']}")).json()["data"]
            assert (event["disposition"], event["method"]) == ("applied", "reference")
            assert (event["recipient"], event["attempt_number"]) == (recipient, attempt["number"])
        assert (await service.get("/v1/unattributed")).json()["data"] == []
        assert (await read_upload(service))["state"] == "unknown"
        assert count_uploads(sandbox) == (1, 0)
        figures = sandbox.sandbox.figures(456)
    counted = await database.pool.fetchval("SELECT sum(recipients) FROM outcome_counts WHERE state = 'completed'")
    assert counted == figures["completed_count"]


async def test_a_provider_that_cannot_be_reached_was_sent_nothing(start_service: StartService) -> None:
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    async with start_service(FORMANT_BASE_URL=nowhere, FORMANT_API_KEY=KEY) as service:
        answer = await upload(service)
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "provider_unreachable")
        assert "nothing was sent" in answer.json()["error"]["message"]
        assert (await read_upload(service))["state"] == "failed"
        assert await read_metric(service, "outcomes_provider_calls_total", operation="upload_batch", status="0") == 1


async def test_a_provider_that_takes_too_long_leaves_the_upload_unknown(
    start_service: StartService, database: Database, tmp_path: Path
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "hang"
        impatient = httpx.AsyncClient(
            base_url=sandbox.base_url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=httpx.Timeout(30.0, read=0.5),  # the service's own client waits a minute
        )
        async with impatient as http:
            client = FormantClient(http, Metrics())
            sender = Sender(database, client, UploadFinder(database, client))
            path = tmp_path / "contacts.csv"
            path.write_text(CONTACTS)
            uploader = Uploader(database, sender, ref_column="outcome_ref", regions=Regions())
            asked = UploadRequest(agent_id=123, name="March Follow Ups", path=path, file_digest=b"\x00" * 32)
            with pytest.raises(ProviderError) as raised:
                await uploader.upload(asked)
        assert (raised.value.status, raised.value.type) == (504, "upload_unknown")
        assert "ReadTimeout" in raised.value.message
        assert (await read_upload(service))["state"] == "unknown"
        assert count_uploads(sandbox) == (1, 0)


STRANGE: dict[str, tuple[Callable[[], Response], int, str]] = {
    "200 that is no JSON": (lambda: Response("welcome"), 504, "unknown"),
    "200 without an id": (lambda: Response('{"data": {"agent_id": 123}}'), 504, "unknown"),
    "a redirect": (lambda: RedirectResponse("/elsewhere"), 504, "unknown"),
    "a gateway's 502": (lambda: HTMLResponse("<h1>Bad gateway</h1>", 502), 504, "unknown"),
    "a gateway's 503": (lambda: HTMLResponse("", 503), 504, "unknown"),
    "a firewall's 403": (lambda: HTMLResponse("<h1>Forbidden</h1>", 403), 502, "failed"),
    "a gateway's 413": (lambda: HTMLResponse("<h1>Too large</h1>", 413), 413, "failed"),
}


async def test_an_answer_that_the_contract_does_not_know_is_a_clear_error_too(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    requests: list[str] = []
    answers: list[Callable[[], Response]] = []

    async def answer_upload(request: Request) -> Response:
        await request.body()
        requests.append(request.url.path)
        return answers.pop()()

    async def list_none(request: Request) -> Response:
        return Response('{"data": []}')

    app = Starlette(
        routes=[
            Route("/v1/batch-calls", list_none, methods=["GET"]),
            Route("/{path:path}", answer_upload, methods=["GET", "POST"]),
        ]
    )
    async with serve_app(app) as url, start_service(FORMANT_BASE_URL=url, FORMANT_API_KEY=KEY) as service:
        for name, (answer, status, state) in STRANGE.items():
            with subtests.test(name):
                answers.append(answer)
                given = await upload(service, force="true")
                assert given.status_code == status
                assert set(given.json()["error"]) == {"message", "type"}
                assert "<h1>" not in given.json()["error"]["message"]
                assert (await read_upload(service))["state"] == state
    assert requests == ["/v1/batch-call"] * len(STRANGE)
