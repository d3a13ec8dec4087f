"""What a dry run and an upload report of people who must not be called, and of people who were called lately."""

import time
from datetime import timedelta

import httpx
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.provider import connect_provider, count_uploads, upload
from tests.suppressions.listing import suppress
from tests.uploads.sampling import phones_of

PEOPLE = [f"+91980000000{number}" for number in range(6)]


def write(*phones: str) -> str:
    return "customer_phone,name\n" + "".join(f"{phone},x\n" for phone in phones)


async def dry_run(service: httpx.AsyncClient, content: str, **form: str) -> dict[str, object]:
    answer = await upload(service, content, dry_run="true", **form)
    assert answer.status_code == 200, answer.text
    report: dict[str, object] = answer.json()["data"]
    return report


async def upload_and_play(service: httpx.AsyncClient, sandbox: RunningSandbox, *phones: str) -> None:
    answer = await upload(service, write(*phones), name=f"of {phones}")
    assert answer.status_code == 200, answer.text
    await sandbox.sandbox.wait_until_done(answer.json()["data"]["id"])


async def test_rows_of_suppressed_people_are_left_out_counted_and_listed(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await suppress(service, PEOPLE[1], PEOPLE[3], reason="asked by letter")
        report = await dry_run(service, write(*PEOPLE))
        assert (report["valid"], report["recipients"], report["error_count"]) == (True, 4, 0)
        assert (report["left_out_count"], report["left_out_kinds"]) == (2, {"suppressed": 2})
        assert report["left_out"] == [
            {"line": line, "phone": f"+91…0{line - 2}", "kind": "suppressed", "why": "asked by letter"}
            for line in (3, 5)
        ]
        answer = await upload(service, write(*PEOPLE))
        assert answer.json()["data"]["total_recipients"] == 4
        assert phones_of(sandbox, 456) == [PEOPLE[0], PEOPLE[2], PEOPLE[4], PEOPLE[5]]


async def test_at_most_a_hundred_left_out_rows_are_listed_and_all_are_counted(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        many = [f"+9198000{number:05}" for number in range(150)]
        await suppress(service, *many)
        report = await dry_run(service, write(*many, *PEOPLE[1:2], "+919811111111"))
        assert (report["left_out_count"], len(report["left_out"]), report["recipients"]) == (150, 100, 1)  # type: ignore[arg-type]


async def test_a_file_of_which_nobody_is_left_is_refused_and_leaves_no_trace(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await suppress(service, *PEOPLE)
        for form in ({}, {"test_recipients": "2"}, {"dry_run": "true"}):
            answer = await upload(service, write(*PEOPLE), **form)
            assert answer.status_code == 400
            assert "no row is left to call (6 must not be called)" in answer.json()["error"]["message"]
        assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0
        assert count_uploads(sandbox) == (0, 0)


async def test_every_row_of_a_suppressed_person_is_left_out_and_still_counts_as_a_duplicate(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service) as (service, _):
        await suppress(service, PEOPLE[0])
        content = write(PEOPLE[0], PEOPLE[1], PEOPLE[0])
        for duplicates, left_out in (("first", 1), ("all", 2)):
            report = await dry_run(service, content, duplicates=duplicates)
            assert (report["recipients"], report["left_out_count"], report["duplicate_count"]) == (1, left_out, 1)
        assert (await dry_run(service, content))["valid"] is False


async def test_errors_are_reported_beside_the_rows_left_out(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        await suppress(service, PEOPLE[0])
        report = await dry_run(service, write(PEOPLE[0], "12", PEOPLE[1]))
        assert (report["valid"], report["error_count"], report["left_out_count"]) == (False, 1, 1)
        skipped = await dry_run(service, write(PEOPLE[0], "12", PEOPLE[1]), invalid="skip")
        assert (skipped["valid"], skipped["recipients"], skipped["skipped"]) == (True, 1, 1)
        nobody = await upload(service, write(PEOPLE[0], "12"), invalid="skip")
        assert (nobody.status_code, "no row is left to call (1 must not" in nobody.text) == (400, True)


async def test_suppressing_people_in_between_does_not_make_another_file_of_it(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, write(*PEOPLE), key="one")).status_code == 200
        await suppress(service, PEOPLE[0])
        again = await upload(service, write(*PEOPLE), key="one")
        assert (again.json()["data"]["id"], again.headers["idempotency-replayed"]) == (456, "true")
        assert (await upload(service, write(*PEOPLE))).status_code == 409
        assert (await upload(service, write(*PEOPLE).replace(",", ";"))).status_code == 409  # the same rows
        assert count_uploads(sandbox) == (1, 0)


async def test_a_test_sample_is_drawn_from_those_who_are_left(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await suppress(service, *PEOPLE[:3])
        too_large = await upload(service, write(*PEOPLE), test_recipients="3")
        assert (too_large.status_code, "less than" in too_large.text) == (400, True)
        answer = await upload(service, write(*PEOPLE), test_recipients="2")
        assert answer.json()["data"]["total_recipients"] == 2
        assert (await service.post("/v1/batch-calls/456/promote")).json()["data"]["total_recipients"] == 1
        assert sorted(phones_of(sandbox, 456) + phones_of(sandbox, 457)) == PEOPLE[3:]


async def test_a_promotion_says_how_many_people_left_the_batch_since_the_check(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        test = (await upload(service, write(*PEOPLE), test_recipients="1")).json()["data"]
        tested = phones_of(sandbox, 456)
        await suppress(service, *[phone for phone in PEOPLE if phone not in tested][:2])
        rest = (await service.post("/v1/batch-calls/456/promote")).json()["data"]
        assert (test["withdrawn"], rest["withdrawn"], rest["file"]["recipients"]) == (0, 2, len(PEOPLE))
        assert rest["total_recipients"] == len(PEOPLE) - 3
        shown = (await service.get(f"/v1/uploads/{rest['upload_id']}")).json()["data"]
        assert (shown["recipients"], shown["withdrawn"]) == (len(PEOPLE) - 3, 2)


async def test_a_dry_run_counts_who_was_called_within_a_week_by_outcome(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True, start=time.time()) as (service, sandbox):
        assert (await dry_run(service, write(*PEOPLE)))["called"] == {"within": "7d", "people": 0, "outcomes": {}}
        await upload_and_play(service, sandbox, *PEOPLE[:4])
        await upload_and_play(service, sandbox, *PEOPLE[:1])
        called = (await dry_run(service, write(*PEOPLE)))["called"]
        assert (called["within"], called["people"]) == ("7d", 4)  # type: ignore[index]
        final = {recipient["phone"]: {recipient["state"]} for recipient in sandbox.sandbox.recipients(456)}
        final[PEOPLE[0]] |= {recipient["state"] for recipient in sandbox.sandbox.recipients(457)}
        states = [state for each in final.values() for state in each]
        assert called["outcomes"] == {state: states.count(state) for state in sorted(set(states))}  # type: ignore[index]
        assert (await dry_run(service, write(*PEOPLE), called_within="36h"))["called"]["within"] == "36h"  # type: ignore[index]


async def test_calls_before_the_time_do_not_count(start_service: StartService, database: Database) -> None:
    async with connect_provider(start_service, plays=True, start=time.time()) as (service, sandbox):
        await upload_and_play(service, sandbox, *PEOPLE)
        past = timedelta(days=8)
        await database.pool.execute(
            "UPDATE facts SET started_at = started_at - $1::interval, ended_at = ended_at - $1::interval, "
            "occurred_at = occurred_at - $1::interval", past,
        )  # fmt: skip
        await database.pool.execute("UPDATE batches SET sent_at = sent_at - $1::interval", past)
        for within, people in (("7d", 0), ("9d", 6)):
            called = (await dry_run(service, write(*PEOPLE), called_within=within))["called"]
            assert called["people"] == people  # type: ignore[index]


@pytest.mark.parametrize(
    ("state", "counts"),
    [("uploaded", True), ("uploading", True), ("unknown", True), ("prepared", False), ("failed", False)],
)
async def test_people_given_to_the_provider_count_before_their_first_call_is_known(
    start_service: StartService, database: Database, state: str, *, counts: bool
) -> None:
    async with connect_provider(start_service) as (service, _):  # its time stands still, so nobody is called
        assert (await upload(service, write(*PEOPLE))).status_code == 200
        await database.pool.execute("UPDATE batches SET upload_state = $1, leased_until = now() + '1 min'", state)
        called = (await dry_run(service, write(*PEOPLE, "+919811111111")))["called"]
        expected = {"within": "7d", "people": 6, "outcomes": {"in_progress": 6}} if counts else 0
        assert (called if counts else called["people"]) == expected  # type: ignore[index]
        await database.pool.execute("UPDATE batches SET sent_at = now() - interval '8 days'")
        assert (await dry_run(service, write(*PEOPLE)))["called"]["people"] == 0  # type: ignore[index]


async def test_people_called_lately_are_left_out_on_request_only(start_service: StartService) -> None:
    async with connect_provider(start_service, plays=True, start=time.time()) as (service, sandbox):
        await upload_and_play(service, sandbox, *PEOPLE[:2])
        await suppress(service, PEOPLE[1], PEOPLE[2])
        report = await dry_run(service, write(*PEOPLE), skip_called_within="30d")
        assert report["left_out_kinds"] == {"called": 1, "suppressed": 2}
        assert report["called"]["within"] == "30d"  # type: ignore[index]
        assert [row["why"] for row in report["left_out"]] == ["called within 30d", *["asked by letter"] * 2]  # type: ignore[attr-defined]
        skipping = await upload(service, write(*PEOPLE), skip_called_within="30d", key="skipping")
        again = await upload(service, write(*PEOPLE), skip_called_within="30d", key="skipping")
        assert skipping.json() == again.json()
        found = skipping.json()["data"]["file"]
        assert (found["recipients"], found["left_out_count"], found["left_out_kinds"]) == (
            3, 3, {"called": 1, "suppressed": 2},
        )  # fmt: skip
        assert (skipping.status_code, phones_of(sandbox, 457)) == (200, PEOPLE[3:])
        other = await upload(service, write(*PEOPLE), key="skipping")
        assert other.status_code == 422  # another request: it would call more people
        counted = await upload(service, write(*PEOPLE), force="true", called_within="30d")
        assert counted.json()["data"]["file"]["called"]["people"] == 5
        assert phones_of(sandbox, 458) == [PEOPLE[0], *PEOPLE[3:]]


@pytest.mark.parametrize("text", ["7", "0d", "366d", "8761h", "7 days", "-1d", "1w", "1.5d", "٧d"])
async def test_a_time_that_cannot_be_used_is_refused(start_service: StartService, text: str) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for name in ("called_within", "skip_called_within"):
            answer = await upload(service, **{name: text})
            message = answer.json()["error"]["message"]
            assert (answer.status_code, message.startswith(f"{name}: takes days or hours")) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_a_misspelt_field_is_refused(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        for name in ("skip_called", "skip-called-within", "called_with", "calledWithin", "skip_calledwithin"):
            answer = await upload(service, **{name: "7d"})
            assert (answer.status_code, "did you mean" in answer.text) == (400, True), name
        assert count_uploads(sandbox) == (0, 0)
