"""A test batch first: a sample of the file is called, the rest is held until it is promoted."""

import asyncio
from typing import Any

import pytest

from service.formant.client import FormantClient, open_http
from service.formant.regions import Regions
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.lookup import UploadFinder
from service.uploads.sending import Sender
from service.uploads.uploader import Promoter, Uploader
from tests.conftest import StartService
from tests.provider import KEY, connect_provider, count_uploads, upload
from tests.uploads.sampling import FILE, phones_of, upload_test

INTENTS = ["promise_to_pay", "callback_requested", "already_paid", "refused", "dispute", "wrong_number", "do_not_call"]


async def test_a_sample_is_uploaded_and_the_rest_only_when_it_is_promoted(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        answer = (await upload_test(service)).json()["data"]
        assert (answer["id"], answer["name"], answer["total_recipients"]) == (456, "March Follow Ups (test)", 10)
        await sandbox.sandbox.wait_until_done(456)
        (held,) = (await service.get("/v1/uploads", params={"state": "held"})).json()["data"]
        assert (held["name"], held["recipients"], held["batch_id"]) == ("March Follow Ups", 40, None)
        assert list(sandbox.sandbox.records.batches) == [456]

        promoted = await service.post("/v1/batch-calls/456/promote")
        assert promoted.status_code == 200
        assert (promoted.json()["data"]["id"], promoted.json()["data"]["name"]) == (457, "March Follow Ups")
        await sandbox.sandbox.wait_until_done(457)
        called = phones_of(sandbox, 456) + phones_of(sandbox, 457)
        assert sorted(called) == sorted(line.split(",")[0] for line in FILE.splitlines()[1:])
        for batch_id, count in ((456, 10), (457, 40)):
            shown = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
            assert shown["recipients"]["total"] == shown["recipients"]["processed"] == count
        assert (await service.get("/v1/unattributed")).json()["data"] == []


async def test_the_two_batches_are_one_campaign(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        await upload_test(service)
        await sandbox.sandbox.wait_until_done(456)
        before = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]["campaign"]
        assert [(row["role"], row["batch_id"], row["state"]) for row in before["batches"]] == [
            ("test", 456, "uploaded"),
            ("main", None, "held"),
        ]
        assert before["recipients"] == {"total": 50, "processed": 10, "in_progress": 40, "pending_retry": 0}
        await service.post("/v1/batch-calls/456/promote")
        await sandbox.sandbox.wait_until_done(457)
        parts = [(await service.get(f"/v1/batch-calls/{id_}/outcomes")).json()["data"] for id_ in (456, 457)]
        assert parts[0]["campaign"] == parts[1]["campaign"]
        campaign = parts[0]["campaign"]
        assert campaign["recipients"] == {"total": 50, "processed": 50, "in_progress": 0, "pending_retry": 0}
        assert campaign["statuses"] == {
            status: sum(part["statuses"][status] for part in parts) for status in parts[0]["statuses"]
        }
        listed = (await service.get("/v1/batch-calls")).json()["data"]
        assert {(row["id"], row["campaign_id"], row["campaign_role"]) for row in listed} == {
            (456, campaign["id"], "test"),
            (457, campaign["id"], "main"),
        }
        shown = {row["id"]: (row["verdict"], row["verdict_text"]) for row in listed}
        for id_ in (456, 457):
            outcomes = (await service.get(f"/v1/batch-calls/{id_}/outcomes")).json()["data"]
            assert shown[id_] == (outcomes["verdict"], outcomes["verdict_text"])
        only = (await service.get("/v1/batch-calls", params={"campaign_id": campaign["id"]})).json()
        assert only["total"] == 2
        assert (await service.get("/v1/batch-calls/457")).json()["data"]["campaign_id"] == campaign["id"]


async def test_a_test_batch_is_promoted_once(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await upload_test(service)
        answers = await asyncio.gather(*(service.post("/v1/batch-calls/456/promote") for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        late = await service.post("/v1/batch-calls/456/promote")
        assert (late.status_code, late.json()["error"]["type"]) == (409, "conflict")
        assert "batch 457" in late.json()["error"]["message"]
        assert count_uploads(sandbox) == (2, 0)


async def test_a_promotion_that_the_provider_refuses_can_be_made_again(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await upload_test(service)
        sandbox.sandbox.faults.next_upload = "429"
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 429
        (held,) = (await service.get("/v1/uploads", params={"state": "held"})).json()["data"]
        assert "next_upload 429" in held["detail"]
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 200
        assert count_uploads(sandbox) == (2, 1)


async def test_a_promotion_whose_answer_was_lost_is_unknown_and_not_sent_again(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await upload_test(service)
        sandbox.sandbox.faults.next_upload = "lost_answer"
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 504
        assert (await service.post("/v1/batch-calls/456/promote")).status_code == 409
        assert count_uploads(sandbox) == (2, 0)


async def test_a_test_batch_that_the_provider_refuses_leaves_nothing_held(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "400"
        assert (await upload_test(service)).status_code == 400
        states = [row["state"] for row in (await service.get("/v1/uploads")).json()["data"]]
        assert states == ["failed", "failed"]
        assert (await upload_test(service)).status_code == 200
        assert count_uploads(sandbox) == (1, 1)


async def test_the_same_file_is_recognised_with_and_without_a_test_batch(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload_test(service, key="campaign-1")).status_code == 200
        assert (await upload(service, FILE)).status_code == 409
        assert (await upload_test(service)).status_code == 409
        again = await upload_test(service, key="campaign-1")
        assert (again.status_code, again.json()["data"]["id"]) == (200, 456)
        assert count_uploads(sandbox) == (1, 0)


async def test_a_batch_that_is_no_test_cannot_be_promoted(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        assert (await upload(service)).status_code == 200
        for batch_id in ("456", "999", "x"):
            assert (await service.post(f"/v1/batch-calls/{batch_id}/promote")).status_code == 404


async def test_a_test_that_would_take_the_whole_file_or_a_threshold_without_a_test_is_refused(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for form, field in (
            ({"test_recipients": "50"}, "test_recipients"),
            ({"test_recipients": "-1"}, "test_recipients"),
            ({"test_recipients": "x"}, "test_recipients"),
            ({"promote_at_success_rate": "80"}, "promote_at_success_rate"),
            ({"test_recipients": "5", "promote_at_success_rate": "101"}, "promote_at_success_rate"),
            ({"promote_at_goal_rate": "80"}, "promote_at_goal_rate"),
            ({"test_recipients": "5", "promote_at_goal_rate": "80"}, "promote_at_goal_rate"),
            ({"test_recipients": "5", "promote_at_success_rate": "nan"}, "promote_at_success_rate"),
        ):
            answer = await upload(service, FILE, **form)
            assert (answer.status_code, answer.json()["error"]["message"].split(":")[0]) == (400, field), form
        assert count_uploads(sandbox) == (0, 0)
        assert (await service.get("/v1/uploads")).json()["data"] == []


async def promote_by_itself(
    start_service: StartService,
    database: Database,
    threshold: float,
    verdict: str,
    *,
    measure: str = "promote_at_success_rate",
    goal: list[str] | None = None,
    is_counted: bool = True,
) -> list[int]:
    """The provider's batches after a pass over a test batch that has been called to its end, with a given verdict."""
    async with connect_provider(start_service, plays=True, options={"completed_share": 0.3}) as (service, sandbox):
        if goal is not None:
            await service.put("/v1/agents/123/goal", json={"results": {"intent": goal}})
        fields: dict[str, Any] = {measure: str(threshold)}
        await upload_test(service, **fields)
        await sandbox.sandbox.wait_until_done(456)
        await database.pool.execute(
            "INSERT INTO batch_schedules (batch_key, due_at, verdict) "
            "SELECT batch_key, 'infinity', $1 FROM batches WHERE batch_id = 456 "
            "ON CONFLICT (batch_key) DO UPDATE SET due_at = 'infinity', verdict = $1",
            verdict,
        )
        if not is_counted:
            await database.pool.execute("UPDATE goal_counts SET counted_to = 1")
        async with open_http(sandbox.base_url, KEY) as http:
            client = FormantClient(http, Metrics())
            sender = Sender(database, client, UploadFinder(database, client))
            uploader = Uploader(database, sender, ref_column="outcome_ref", regions=Regions())
            await Promoter(database, uploader).promote_due()
            await Promoter(database, uploader).promote_due()
        return list(sandbox.sandbox.records.batches)


async def test_a_test_batch_that_passed_is_promoted_by_itself(start_service: StartService, database: Database) -> None:
    assert await promote_by_itself(start_service, database, 10, "complete") == [456, 457]


async def test_a_test_batch_that_did_not_pass_is_not(start_service: StartService, database: Database) -> None:
    assert await promote_by_itself(start_service, database, 100, "complete") == [456]


@pytest.mark.parametrize(
    ("goal", "is_counted", "batches"),
    [
        (INTENTS, True, [456, 457]),
        (["nobody_says_this"], True, [456]),
        (INTENTS, False, [456]),
    ],
    ids=["reached", "missed", "being counted"],
)
async def test_a_test_batch_is_promoted_by_its_goal_rate(
    start_service: StartService, database: Database, goal: list[str], is_counted: bool, batches: list[int]
) -> None:
    promoted = await promote_by_itself(
        start_service, database, 10, "complete", measure="promote_at_goal_rate", goal=goal, is_counted=is_counted
    )
    assert promoted == batches


@pytest.mark.parametrize("verdict", ["unverified", "open", "settling", "drifted"])
async def test_figures_that_are_not_complete_promote_nothing(
    start_service: StartService, database: Database, verdict: str
) -> None:
    assert await promote_by_itself(start_service, database, 0, verdict) == [456]
