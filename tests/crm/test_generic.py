"""The generic endpoint: its requests, its idempotency key, and the statuses of single records."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import stamina
from starlette.responses import JSONResponse, Response

from service.crm.delivery import UNCONFIRMED, Delivery
from service.crm.exchange import SyncError
from service.crm.mapping import Generic
from service.crm.records import Record
from service.crm.targets import GenericTarget, open_target
from tests.crm.generic_server import LocalCrm
from tests.crm.hubspot_server import TOKEN


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
async def crm() -> AsyncIterator[LocalCrm]:
    async with LocalCrm().serve() as serving:
        yield serving


@asynccontextmanager
async def connect(crm: LocalCrm, *, batch_size: int = 100, token: str = TOKEN) -> AsyncIterator[Delivery]:
    async with open_target(token) as http:
        target = GenericTarget(http, Generic(url=crm.url, batch_size=batch_size))
        yield Delivery(target, is_patient=False, give_up_after=0)


def make_record(number: int, position: int | None = None, **properties: object) -> Record:
    return Record(f"LN-{number}", properties, position or number, 456, number)


async def test_records_come_with_their_positions_in_batches_of_the_chosen_size(crm: LocalCrm) -> None:
    async with connect(crm, batch_size=2) as delivery:
        sent = [make_record(1, state="busy", attempts=2, is_final=True, intent=None), make_record(2), make_record(3)]
        assert await delivery.deliver(sent) == []
    assert [[record["id"] for record in batch] for batch in crm.batches] == [["LN-1", "LN-2"], ["LN-3"]]
    properties = {"state": "busy", "attempts": 2, "is_final": True, "intent": None}
    assert crm.batches[0][0] == {"id": "LN-1", "position": 1, "properties": properties}


async def test_a_repeated_batch_has_the_same_key_and_a_return_to_an_earlier_state_another(crm: LocalCrm) -> None:
    async with connect(crm) as delivery:
        for position, state in ((1, "busy"), (1, "busy"), (2, "completed"), (3, "busy")):
            await delivery.deliver([make_record(1, position, state=state)])
    first, again, second, third = crm.keys
    assert first == again
    assert len({first, second, third}) == 3
    assert crm.records == {"LN-1": {"state": "busy"}}


async def test_an_outage_is_tried_again_with_the_same_key(crm: LocalCrm) -> None:
    crm.faults += [lambda: Response(status_code=503), lambda: Response(b'{"results": [', 200)]
    async with connect(crm) as delivery:
        assert await delivery.deliver([make_record(1)]) == []
    assert len(crm.keys) == 3
    assert len(set(crm.keys)) == 1


@pytest.mark.parametrize("has_statuses", [True, False])
async def test_refused_records_are_returned_and_the_others_are_sent(crm: LocalCrm, has_statuses: bool) -> None:
    crm.has_statuses = has_statuses
    crm.refused = {"LN-3": "no such loan", "LN-8": "closed"}
    async with connect(crm) as delivery:
        failures = await delivery.deliver([make_record(number) for number in range(1, 11)])
    assert [each.key for each in failures] == ["LN-3", "LN-8"]
    assert [each.reason.removeprefix("422: ") for each in failures] == ["no such loan", "closed"]
    assert crm.records.keys() == {f"LN-{n}" for n in range(1, 11)} - {"LN-3", "LN-8"}


async def test_an_unknown_status_is_a_failure_that_names_it(crm: LocalCrm) -> None:
    crm.faults.append(lambda: JSONResponse({"results": [{"id": "LN-1", "status": "queued"}, {"id": "LN-2"}]}))
    async with connect(crm) as delivery:
        failures = await delivery.deliver([make_record(1), make_record(2)])
    assert [(each.key, each.reason) for each in failures] == [("LN-1", "status 'queued': no reason given")]


async def test_an_answer_without_json_confirms_all(crm: LocalCrm) -> None:
    crm.faults.append(lambda: Response("thanks", 202))
    async with connect(crm) as delivery:
        assert await delivery.deliver([make_record(1), make_record(2)]) == []


async def test_a_wrong_token_stops_the_job(crm: LocalCrm) -> None:
    async with connect(crm, token="wrong") as delivery:
        with pytest.raises(SyncError, match=r"refused OUTCOMES_CRM_TOKEN with 401: who are you\?"):
            await delivery.deliver([make_record(1)])
    assert crm.batches == []


def name_only(*numbers: int) -> JSONResponse:
    return JSONResponse({"results": [{"id": f"LN-{number}", "status": "ok"} for number in numbers]})


async def test_only_records_named_in_results_count_as_sent(crm: LocalCrm) -> None:
    crm.faults += [lambda: name_only(3, 1, 1, 9), name_only]
    async with connect(crm) as delivery:
        failures = await delivery.deliver([make_record(number) for number in (1, 2, 3)])
        assert delivery.taken == 2
    assert [[record["id"] for record in batch] for batch in crm.batches] == [["LN-1", "LN-2", "LN-3"], ["LN-2"]]
    assert [(each.key, each.reason) for each in failures] == [("LN-2", UNCONFIRMED)]


async def test_a_record_both_confirmed_and_refused_is_refused(crm: LocalCrm) -> None:
    results = [{"id": "LN-1", "status": "ok"}, {"id": "LN-1", "status": "error", "message": "no"}]
    crm.faults.append(lambda: JSONResponse({"results": [*results, {"id": "LN-2", "status": "ok"}]}))
    async with connect(crm) as delivery:
        failures = await delivery.deliver([make_record(1), make_record(2)])
        assert ([(each.key, each.reason) for each in failures], delivery.taken) == ([("LN-1", "no")], 1)


async def test_ids_may_be_returned_as_numbers(crm: LocalCrm) -> None:
    crm.faults.append(lambda: JSONResponse({"results": [{"id": 17, "status": "ok"}, {"id": "18", "status": "ok"}]}))
    async with connect(crm) as delivery:
        assert await delivery.deliver([Record(key, {}, int(key), 456, 1) for key in ("17", "18")]) == []
    assert len(crm.batches) == 1


async def test_an_error_in_a_2xx_confirms_nothing(crm: LocalCrm) -> None:
    crm.faults += [lambda: JSONResponse({"error": {"message": "quota"}})] * 2
    async with connect(crm) as delivery:
        failures = await delivery.deliver([make_record(1)])
        assert ([each.reason for each in failures], delivery.taken) == (["200: quota"], 0)


async def test_a_web_page_confirms_nothing_and_stops_the_job(crm: LocalCrm) -> None:
    crm.faults.append(lambda: Response("<html>Sign in</html>", 200))
    async with connect(crm) as delivery:
        with pytest.raises(SyncError, match=r"with a web page, which confirms nothing. Check target.url"):
            await delivery.deliver([make_record(1), make_record(2)])
        assert delivery.taken == 0


async def test_any_refusal_with_retry_after_is_repeated(crm: LocalCrm) -> None:
    crm.faults += [lambda: Response(status_code=422, headers={"retry-after": "1"})] * 3
    async with connect(crm) as delivery:
        assert await delivery.deliver([make_record(1), make_record(2)]) == []
    assert len(crm.batches) == 4
