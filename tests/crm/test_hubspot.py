"""HubSpot as its public API describes it: what is sent, and what follows from each of its answers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import stamina
from starlette.responses import JSONResponse, RedirectResponse, Response
from structlog.testing import capture_logs

from service.crm.delivery import Delivery
from service.crm.errors import SyncError
from service.crm.exchange import ATTEMPTS
from service.crm.hubspot import HubSpotTarget
from service.crm.mapping import HubSpot, Key
from service.crm.records import Failure, Record
from service.crm.targets import open_target
from tests.crm.hubspot_server import TOKEN, LocalHubSpot, problem, too_many

PATH = "/crm/v3/objects/contacts/batch/upsert"


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Repeats without the waits between, which are told in the log."""
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
    """A delivery to the local HubSpot, and the rests that it took between calls."""
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
async def test_bad_records_are_told_with_the_reason_and_their_neighbours_are_taken(partial: str) -> None:
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
        (lambda: problem(500, "internal error"), None),
        (lambda: Response("<html>Bad gateway</html>", 502), None),
        (lambda: Response("no JSON"), None),
        (lambda: JSONResponse({"status": "CANCELED", "results": []}), None),
        ("cut", None),
    ],
)
async def test_what_may_pass_is_repeated_after_as_long_as_hubspot_asks_for(
    hubspot: LocalHubSpot, trouble: object, waits: float | None
) -> None:
    hubspot.faults += [trouble, trouble]  # type: ignore[list-item]
    with capture_logs() as log:
        assert await deliver(hubspot, make_record(1, outcome="BUSY"), make_record(2)) == []
    assert hubspot.requests[0] == hubspot.requests[1] == hubspot.requests[2]
    assert len(hubspot.requests) == 3
    assert hubspot.objects == {"ln-1": {"loan_id": "LN-1", "outcome": "BUSY"}, "ln-2": {"loan_id": "LN-2"}}
    told = [line["wait_seconds"] for line in log if line["event"] == "crm_sync_waits"]
    assert len(told) == 2
    if waits is not None:
        assert told == [waits, waits]


async def test_a_retry_after_may_be_a_date(hubspot: LocalHubSpot) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=250), usegmt=True)
    hubspot.faults.append(lambda: too_many("SECONDLY", **{"Retry-After": date}))
    with capture_logs() as log:
        assert await deliver(hubspot, make_record(1)) == []
    (line,) = (line for line in log if line["event"] == "crm_sync_waits")
    assert 200 < line["wait_seconds"] <= 250


async def test_a_daily_limit_ends_a_run_that_nobody_keeps_waiting_for(hubspot: LocalHubSpot) -> None:
    hubspot.faults.append(lambda: too_many("DAILY"))
    with pytest.raises(SyncError, match=r"daily limit.*asks to wait for 600 s.*run it again"):
        await deliver(hubspot, make_record(1))
    assert len(hubspot.requests) == 1


async def test_an_outage_that_does_not_pass_is_told_in_the_end(hubspot: LocalHubSpot) -> None:
    hubspot.faults += [lambda: problem(500, "internal error")] * ATTEMPTS
    with pytest.raises(SyncError, match="The CRM answered 500: internal error"):
        await deliver(hubspot, make_record(1))
    assert len(hubspot.requests) == ATTEMPTS


async def test_a_job_that_follows_waits_out_any_outage_and_any_limit(hubspot: LocalHubSpot) -> None:
    hubspot.faults += [lambda: problem(500, "internal error")] * (2 * ATTEMPTS)
    hubspot.faults += [lambda: too_many("DAILY")] * 3
    async with connect(hubspot, patient=True) as (delivery, _):
        assert await delivery.deliver([make_record(1)]) == []
    assert len(hubspot.requests) == 2 * ATTEMPTS + 4


async def test_a_hubspot_that_cannot_be_reached_is_told() -> None:
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
        with pytest.raises(SyncError, match=r"redirects elsewhere \(307\), which is not followed"):
            await deliver(hubspot, make_record(1))
        assert elsewhere.paths == []


async def test_a_mapping_that_no_record_passes_stops_the_job_before_all_are_failures(hubspot: LocalHubSpot) -> None:
    hubspot.partial = "whole"
    hubspot.unknown_properties.add("outcome")
    records = [make_record(number, outcome="BUSY") for number in range(1, 201)]
    async with connect(hubspot, give_up_after=20) as (delivery, _):
        with pytest.raises(SyncError, match=r'first 20 records.*"outcome" does not exist.*--give-up-after 0'):
            await delivery.deliver(records)
    assert len(hubspot.requests) < 50
    assert len(await deliver(hubspot, *records)) == 200


async def test_bad_records_after_good_ones_do_not_stop_the_job(hubspot: LocalHubSpot) -> None:
    hubspot.options["outcome"] = {"BUSY"}
    records = [make_record(number, outcome="BUSY" if number == 1 else "WRONG") for number in range(1, 101)]
    async with connect(hubspot, give_up_after=20) as (delivery, _):
        assert len(await delivery.deliver(records)) == 99
