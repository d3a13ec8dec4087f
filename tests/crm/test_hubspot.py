"""HubSpot as its public API describes it: the requests, and the job's reaction to each answer."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import stamina
from starlette.responses import JSONResponse, RedirectResponse, Response
from structlog.testing import capture_logs

from service.crm.delivery import UNCONFIRMED, Delivery
from service.crm.exchange import ATTEMPTS, SyncError
from service.crm.hubspot import HubSpotTarget, _normalize
from service.crm.mapping import HubSpot, Key
from service.crm.records import Failure, Record
from service.crm.targets import open_target
from tests.crm.hubspot_server import TOKEN, LocalHubSpot, problem, too_many

PATH = "/crm/v3/objects/contacts/batch/upsert"


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Repeats without the waits between, which the log shows."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
async def hubspot() -> AsyncIterator[LocalHubSpot]:
    async with LocalHubSpot().serve() as serving:
        yield serving


def make_record(number: int, **properties: object) -> Record:
    return Record(f"LN-{number}", {"loan_id": f"LN-{number}", **properties}, number, 456, number)


@asynccontextmanager
async def connect(
    hubspot: LocalHubSpot,
    *,
    token: str = TOKEN,
    object_type: str = "contacts",
    give_up_after: int = 0,
    patient: bool = False,
) -> AsyncIterator[tuple[Delivery, list[float]]]:
    """A delivery to the local HubSpot, and its pauses between calls."""
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    async with open_target(token) as http:
        target = HubSpotTarget(
            http, HubSpot(object_type=object_type, url=f"{hubspot.url}/"), Key(id_property="loan_id"), rest
        )
        yield Delivery(target, is_patient=patient, give_up_after=give_up_after), rests


async def deliver(hubspot: LocalHubSpot, *records: Record) -> list[Failure]:
    async with connect(hubspot) as (delivery, _):
        return await delivery.deliver(records)


async def test_a_batch_is_sent_as_the_reference_has_it(hubspot: LocalHubSpot) -> None:
    sent = make_record(1, outcome="CONNECTED", attempts=2, is_final=True, intent=None, due=15000.5, tags=["a", 1])
    assert await deliver(hubspot, sent) == []
    assert hubspot.paths == [PATH]
    assert hubspot.requests == [
        {
            "inputs": [
                {
                    "id": "LN-1",
                    "idProperty": "loan_id",
                    "objectWriteTraceId": "1",
                    "properties": {
                        "loan_id": "LN-1",
                        "outcome": "CONNECTED",
                        "attempts": "2",
                        "is_final": "true",
                        "intent": "",
                        "due": "15000.5",
                        "tags": '["a",1]',
                    },
                }
            ]
        }
    ]


async def test_no_batch_is_larger_than_100(hubspot: LocalHubSpot) -> None:
    assert await deliver(hubspot, *(make_record(number) for number in range(1, 252))) == []
    assert [len(request["inputs"]) for request in hubspot.requests] == [100, 100, 51]
    assert len(hubspot.objects) == 251


@pytest.mark.parametrize("partial", ["traces", "ids", "first", "nobody", "whole"])
async def test_bad_records_fail_with_the_reason_and_their_neighbours_are_sent(partial: str) -> None:
    hubspot = LocalHubSpot(partial)  # type: ignore[arg-type]
    hubspot.options["outcome"] = {"CONNECTED", "BUSY"}
    bad = {7, 41, 42, 100}
    records = [make_record(n, outcome="WRONG" if n in bad else "BUSY") for n in range(1, 101)]
    async with hubspot.serve():
        failures = await deliver(hubspot, *records)
    assert {(each.key, each.position, each.batch_id, each.recipient) for each in failures} == {
        (f"LN-{n}", n, 456, n) for n in bad
    }
    assert all("WRONG was not one of the allowed options of outcome" in each.reason for each in failures)
    assert hubspot.objects.keys() == {f"ln-{n}" for n in range(1, 101) if n not in bad}
    assert len(hubspot.requests) == 1 if partial in {"traces", "ids"} else len(hubspot.requests) < 50


async def test_a_key_that_looks_like_the_place_of_another_record_is_not_taken_for_it(hubspot: LocalHubSpot) -> None:
    hubspot.options["outcome"] = {"BUSY"}
    good = Record("2", {"loan_id": "2", "outcome": "BUSY"}, 1, 456, 1)
    bad = Record("x", {"loan_id": "x", "outcome": "WRONG"}, 2, 456, 2)
    assert [each.key for each in await deliver(hubspot, good, bad)] == ["x"]


async def test_two_keys_that_are_one_to_hubspot_are_both_sent_the_later_one_last(hubspot: LocalHubSpot) -> None:
    lower = Record("ln-1", {"loan_id": "ln-1", "outcome": "later"}, 2, 456, 2)
    assert await deliver(hubspot, make_record(1, outcome="earlier"), lower) == []
    assert hubspot.objects["ln-1"]["outcome"] == "later"


@pytest.mark.parametrize(
    ("trouble", "waits"),
    [
        (lambda: too_many("TEN_SECONDLY_ROLLING", **{"Retry-After": "7"}), 7.0),
        (lambda: too_many("TEN_SECONDLY_ROLLING"), 10.0),
        (lambda: too_many("SECONDLY"), 1.0),
        (lambda: too_many("UNHEARD_OF"), 10.0),
        (lambda: problem(423, "Locked"), 2.0),
        (lambda: problem(503, "Down", headers={"Retry-After": "2.5"}), 2.5),
        (lambda: problem(477, "Migration in progress", headers={"Retry-After": "30"}), 30.0),
        (lambda: problem(477, "Migration in progress"), None),
        (lambda: problem(400, "Busy", headers={"Retry-After": "3"}), 3.0),
        (lambda: problem(403, "Not now", headers={"Retry-After": "4"}), 4.0),
        (lambda: problem(451, "Not now", headers={"Retry-After": "soon"}), None),
        (lambda: problem(500, "internal error"), None),
        (lambda: Response("<html>Bad gateway</html>", 502), None),
        (lambda: Response("no JSON"), None),
        (lambda: JSONResponse({"status": "CANCELED", "results": []}), None),
        ("cut", None),
    ],
)
async def test_a_temporary_failure_is_repeated_after_the_time_that_hubspot_asks_for(
    hubspot: LocalHubSpot, trouble: object, waits: float | None
) -> None:
    hubspot.faults += [trouble, trouble]  # type: ignore[list-item]
    with capture_logs() as log:
        assert await deliver(hubspot, make_record(1, outcome="BUSY"), make_record(2)) == []
    assert hubspot.requests[0] == hubspot.requests[1] == hubspot.requests[2]
    assert len(hubspot.requests) == 3
    assert hubspot.objects == {"ln-1": {"loan_id": "LN-1", "outcome": "BUSY"}, "ln-2": {"loan_id": "LN-2"}}
    waited = [line["wait_seconds"] for line in log if line["event"] == "crm_sync_waiting"]
    assert len(waited) == 2
    if waits is not None:
        assert waited == [waits, waits]


async def test_a_retry_after_may_be_a_date(hubspot: LocalHubSpot) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=250), usegmt=True)
    hubspot.faults.append(lambda: too_many("SECONDLY", **{"Retry-After": date}))
    with capture_logs() as log:
        assert await deliver(hubspot, make_record(1)) == []
    (line,) = (line for line in log if line["event"] == "crm_sync_waiting")
    assert 200 < line["wait_seconds"] <= 250


async def test_a_daily_limit_stops_a_run_that_is_not_patient(hubspot: LocalHubSpot) -> None:
    hubspot.faults.append(lambda: too_many("DAILY"))
    with pytest.raises(SyncError, match=r"daily limit.*asks to wait for 600 s.*run it again"):
        await deliver(hubspot, make_record(1))
    assert len(hubspot.requests) == 1


async def test_a_lasting_outage_stops_the_job(hubspot: LocalHubSpot) -> None:
    hubspot.faults += [lambda: problem(500, "internal error")] * ATTEMPTS
    with pytest.raises(SyncError, match="The CRM answered 500: internal error"):
        await deliver(hubspot, make_record(1))
    assert len(hubspot.requests) == ATTEMPTS


async def test_a_job_that_follows_asks_again_within_the_hour_whatever_the_wait(hubspot: LocalHubSpot) -> None:
    hubspot.faults.append(lambda: problem(477, "Migration in progress", headers={"Retry-After": "86400"}))
    with capture_logs() as log:
        async with connect(hubspot, patient=True) as (delivery, _):
            assert await delivery.deliver([make_record(1)]) == []
    assert [line["wait_seconds"] for line in log if line["event"] == "crm_sync_waiting"] == [3600.0]


async def test_a_job_that_follows_waits_out_any_outage_and_any_limit(hubspot: LocalHubSpot) -> None:
    hubspot.faults += [lambda: problem(500, "internal error")] * (2 * ATTEMPTS)
    hubspot.faults += [lambda: too_many("DAILY")] * 3
    async with connect(hubspot, patient=True) as (delivery, _):
        assert await delivery.deliver([make_record(1)]) == []
    assert len(hubspot.requests) == 2 * ATTEMPTS + 4


async def test_an_unreachable_hubspot_stops_the_job() -> None:
    hubspot = LocalHubSpot()
    hubspot.url = "http://127.0.0.1:9"
    with pytest.raises(SyncError, match=r"The CRM did not answer \(ConnectError\)"):
        await deliver(hubspot, make_record(1))


async def test_after_the_last_call_of_an_interval_the_next_one_waits(hubspot: LocalHubSpot) -> None:
    hubspot.remaining = 0
    async with connect(hubspot) as (delivery, rests):
        await delivery.deliver([make_record(1)])
        assert rests == []
        hubspot.remaining = 5
        await delivery.deliver([make_record(2)])
        await delivery.deliver([make_record(3)])
    assert rests == [10.0]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_stops_the_job_at_once(hubspot: LocalHubSpot, status: int) -> None:
    hubspot.faults.append(lambda: problem(status, "no scope", "MISSING_SCOPES"))
    with pytest.raises(SyncError, match=f"refused OUTCOMES_CRM_TOKEN with {status}: no scope"):
        await deliver(hubspot, make_record(1), make_record(2))
    assert len(hubspot.requests) == 1


async def test_a_wrong_token_and_a_wrong_object_type_stop_the_job(hubspot: LocalHubSpot) -> None:
    async with connect(hubspot, token="wrong") as (delivery, _):
        with pytest.raises(SyncError, match="OUTCOMES_CRM_TOKEN with 401"):
            await delivery.deliver([make_record(1)])
    async with connect(hubspot, object_type="contcats") as (delivery, _):
        with pytest.raises(SyncError, match=r"404.*\[target\]"):
            await delivery.deliver([make_record(1)])
    assert (len(hubspot.paths), hubspot.objects) == (2, {})


async def test_a_redirect_is_not_followed(hubspot: LocalHubSpot) -> None:
    async with LocalHubSpot().serve() as elsewhere:
        hubspot.faults.append(lambda: RedirectResponse(f"{elsewhere.url}{PATH}", 307))
        with pytest.raises(SyncError, match=r"redirects \(307\), which is not followed"):
            await deliver(hubspot, make_record(1))
        assert elsewhere.paths == []


@pytest.mark.parametrize("partial", ["traces", "nobody", "whole"])
async def test_ten_refusals_in_a_row_for_one_reason_stop_the_job(partial: str) -> None:
    hubspot = LocalHubSpot(partial)  # type: ignore[arg-type]
    hubspot.options["outcome"] = {"BUSY"}
    records = [make_record(number, outcome="BUSY" if number <= 3 else "WRONG") for number in range(1, 201)]
    async with hubspot.serve(), connect(hubspot, give_up_after=10) as (delivery, _):
        with pytest.raises(SyncError, match=r"refused 10 records in a row for one reason: .*WRONG was not one of"):
            await delivery.deliver(records)
        assert delivery.taken == len(hubspot.accepted) == 3
    assert len(hubspot.requests) < 40


async def test_the_reason_of_a_row_of_refusals_is_one_however_it_names_each_record(hubspot: LocalHubSpot) -> None:
    def refuse(number: int) -> JSONResponse:
        who = f"LN-{number} of asha{number}@example.com ({7000000000 + number})"
        return problem(400, f"{who} has no owner; e36853de-9cbb-441e-ad75-d3c8ac82ab{number:02}")

    hubspot.faults += [lambda n=n: refuse(n) for n in range(1, 11)]  # type: ignore[misc]
    async with connect(hubspot, give_up_after=10) as (delivery, _):
        for number in range(1, 10):
            assert len(await delivery.deliver([make_record(number)])) == 1
        with pytest.raises(SyncError) as stopped:
            await delivery.deliver([make_record(10)])
    assert len(hubspot.requests) == 10
    for own in ("LN-", "asha", "70000000", "e36853de"):
        assert own not in str(stopped.value)


async def test_refusals_that_others_come_between_or_that_differ_do_not_stop_the_job(hubspot: LocalHubSpot) -> None:
    hubspot.options["outcome"] = {"BUSY"}
    words = ["WRONG"] * 9 + ["BUSY"] + ["WRONG"] * 9 + ["WORSE"] + ["WRONG"] * 9
    records = [make_record(number, outcome=word) for number, word in enumerate(words, 1)]
    async with connect(hubspot, give_up_after=10) as (delivery, _):
        assert len(await delivery.deliver(records)) == 28


async def test_without_a_limit_a_row_of_refusals_is_a_row_of_failures(hubspot: LocalHubSpot) -> None:
    hubspot.options["outcome"] = {"BUSY"}
    assert len(await deliver(hubspot, *(make_record(number, outcome="WRONG") for number in range(1, 101)))) == 100


@pytest.mark.parametrize("partial", ["traces", "nobody", "whole"])
async def test_a_property_that_is_deleted_midway_stops_the_job_at_once_and_is_named(partial: str) -> None:
    hubspot = LocalHubSpot(partial)  # type: ignore[arg-type]
    records = [make_record(number, outcome="BUSY", attempts=1) for number in range(1, 201)]
    async with hubspot.serve(), connect(hubspot) as (delivery, _):
        assert await delivery.deliver(records[:100]) == []
        del hubspot.properties["attempts"]
        with pytest.raises(SyncError, match=r"contacts have no property 'attempts' \(any more\)"):
            await delivery.deliver(records[100:])
        assert delivery.taken == 100
    assert len(hubspot.requests) == 2


async def test_a_property_that_only_one_error_of_many_misses_stops_the_job(hubspot: LocalHubSpot) -> None:
    error = {"message": 'Property "attempts" does not exist', "category": "VALIDATION_ERROR"}
    hubspot.faults.append(lambda: JSONResponse({"status": "COMPLETE", "results": [], "errors": [error]}, 207))
    with pytest.raises(SyncError, match="no property 'attempts'"):
        await deliver(hubspot, make_record(1, attempts=1), make_record(2, attempts=1))
    assert len(hubspot.requests) == 1


def drop(*keys: str) -> Any:
    """Leaves the results of these records out of the answer."""

    def edit(content: dict[str, Any]) -> None:
        content["results"] = [each for each in content["results"] if each["properties"].get("loan_id") not in keys]

    return edit


def keep_first(content: dict[str, Any]) -> None:
    del content["results"][1:]


def repeat_first(content: dict[str, Any]) -> None:
    content["results"] = content["results"][:1] * len(content["results"])


def name_others(content: dict[str, Any]) -> None:
    """As many results as inputs, each for a record that was never sent."""
    for each in content["results"]:
        each |= {"objectWriteTraceId": "9" + each.get("objectWriteTraceId", "9"), "id": "9" + each["id"]}
        each["properties"] |= {"loan_id": "X"}


def leave_out(content: dict[str, Any]) -> None:
    del content["results"]


def shuffle(content: dict[str, Any]) -> None:
    content["results"].reverse()


@pytest.mark.parametrize("echo", [{"trace", "property"}, {"trace"}, {"property"}, set()])
@pytest.mark.parametrize(("edit", "is_whole"), [(shuffle, True), (keep_first, False), (repeat_first, False)])
async def test_only_records_that_the_answer_confirms_were_sent(
    hubspot: LocalHubSpot, echo: set[Any], edit: Any, is_whole: bool
) -> None:
    hubspot.echo = echo
    hubspot.edit = edit
    async with connect(hubspot) as (delivery, _):
        assert await delivery.deliver([make_record(number) for number in range(1, 9)]) == []
        assert delivery.taken == 8
    assert (len(hubspot.requests) == 1) == is_whole  # the others were confirmed one by one


@pytest.mark.parametrize("edit", [name_others, leave_out, lambda content: content.update(results=[{}] * 8)])
@pytest.mark.parametrize("echo", [{"trace", "property"}, set()])
async def test_records_that_no_answer_ever_confirms_are_failures(
    hubspot: LocalHubSpot, edit: Any, echo: set[Any]
) -> None:
    hubspot.edit = edit
    hubspot.echo = echo
    async with connect(hubspot) as (delivery, _):
        failures = await delivery.deliver([make_record(number) for number in range(1, 9)])
        assert delivery.taken == 0
    assert {each.reason for each in failures} == {UNCONFIRMED}
    assert [each.key for each in failures] == [f"LN-{number}" for number in range(1, 9)]


async def test_one_record_that_is_left_out_of_every_answer_is_the_only_failure(hubspot: LocalHubSpot) -> None:
    hubspot.edit = drop("LN-7")
    async with connect(hubspot) as (delivery, _):
        failures = await delivery.deliver([make_record(number) for number in range(1, 101)])
        assert ([each.key for each in failures], delivery.taken) == (["LN-7"], 99)
    assert len(hubspot.requests) == 2


@pytest.mark.parametrize(("key", "returned"), [("LN-1", "ln-1"), ("007", "7"), ("7", "7.0"), ("A@x.com", "a@x.com ")])
async def test_a_key_is_recognised_as_hubspot_writes_it(hubspot: LocalHubSpot, key: str, returned: str) -> None:
    hubspot.echo = {"property"}
    hubspot.edit = lambda content: content["results"][0]["properties"].update(loan_id=returned)
    assert await deliver(hubspot, Record(key, {"loan_id": key}, 1, 456, 1), make_record(2)) == []
    assert len(hubspot.requests) == 1


async def check(hubspot: LocalHubSpot, *properties: str) -> None:
    async with open_target(TOKEN) as http:
        key = Key(id_property="loan_id")
        await HubSpotTarget(http, HubSpot(object_type="contacts", url=hubspot.url), key).check(properties)


async def test_properties_are_checked_in_one_call(hubspot: LocalHubSpot) -> None:
    await check(hubspot, "loan_id", "outcome", "attempts")
    assert hubspot.paths == ["/crm/v3/properties/contacts"]


async def test_all_unknown_properties_are_named_with_the_nearest(hubspot: LocalHubSpot) -> None:
    hubspot.properties["due"]["modificationMetadata"] = {"readOnlyValue": True}
    hubspot.properties["loan_id"]["hasUniqueValue"] = False
    with pytest.raises(SyncError) as refused:
        await check(hubspot, "loan_id", "outcme", "due", "intent", "zzz")
    for part in (
        "no property 'outcme' (did you mean 'outcome'?)", "no property 'zzz';", "'due' is read-only",
        "'loan_id' does not hold unique values",
    ):  # fmt: skip
        assert part in str(refused.value) + ";"
    assert "intent" not in str(refused.value)


async def test_a_token_that_may_not_see_the_properties_checks_nothing_and_says_so(hubspot: LocalHubSpot) -> None:
    hubspot.property_faults.append(lambda: problem(403, "no scope", "MISSING_SCOPES"))
    with capture_logs() as log:
        await check(hubspot, "nowhere")
    assert [line["event"] for line in log] == ["crm_property_check_failed"]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("007", "7", True), ("1e2", "100", True), ("7E1234567", "7e1234567", True), ("7E1234567", "8E1234567", False),
     ("1" * 40, "1" * 39 + "2", False), ("1E-1234567890", "0", False), ("nan", "NaN", True)],
)  # fmt: skip
def test_keys_that_look_like_numbers_of_any_size_are_compared(one: str, other: str, is_same: bool) -> None:
    assert (_normalize(one) == _normalize(other)) is is_same
