"""A person who called, in a call that no rule knows as inbound, is erased wherever the number that called is stored."""

from typing import Any

import httpx
import pytest

from service.privacy import erasure
from service.store.database import Database
from service.webhooks.rebuilding import Rebuilder
from tests.factories import AGENT_ID, BATCH_ID, BEGAN, make_payload, post_webhook, store_batch
from tests.guarantees.ambiguous_calls import make_dashboard_batch, register
from tests.guarantees.erasing import CALL, LOAN, NAME, PARAMETERS, RESULTS, SAID, check_sound
from tests.guarantees.whole_database import find_everywhere

CALLER, NATIONAL = "+917000000077", "7000000077"
AGENTS_NUMBER, CALLERS_NUMBER = "+918000000001", "+918000000000"
WINDOW = 900
SECRETS = (NATIONAL, NAME, LOAN, SAID, CALL)


def make_inbound(**given: Any) -> dict[str, Any]:
    """The person calls the agent: nothing but ``from_phone`` names them."""
    usual: dict[str, Any] = {
        "recipient": None, "phone": AGENTS_NUMBER, "attempt": None, "conversation_id": CALL, "parameters": PARAMETERS,
        "results": RESULTS, "event_id": "inbound", "began": BEGAN,
    }  # fmt: skip
    caller = given.pop("caller", CALLER)
    payload = make_payload(**usual | given)
    payload["data"]["call"]["from_phone"] = caller
    return payload


async def send(service: httpx.AsyncClient, *payloads: dict[str, Any]) -> None:
    for payload in payloads:
        assert (await post_webhook(service, payload)).status_code == 204


async def erase(service: httpx.AsyncClient) -> dict[str, Any]:
    answer = await service.post("/v1/erasures", json={"phone": CALLER})
    assert answer.status_code == 200, answer.text
    erased: dict[str, Any] = answer.json()["data"]
    return erased


async def read_outcomes(service: httpx.AsyncClient, batch_id: int = WINDOW) -> dict[str, Any]:
    shown: dict[str, Any] = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
    return shown


async def forget_bodies(database: Database) -> None:
    await database.pool.execute("DELETE FROM event_bodies")


@pytest.mark.parametrize("are_bodies_kept", [True, False])
@pytest.mark.parametrize("spelled", [CALLER, "0" + NATIONAL, "91 70000 00077", "sip:+917000000077@carrier.example"])
async def test_a_caller_whose_call_fell_into_a_batch_is_erased_and_the_call_still_counts(
    service: httpx.AsyncClient, database: Database, spelled: str, are_bodies_kept: bool
) -> None:
    await make_dashboard_batch(database, WINDOW, 0)
    stranger = make_inbound(
        caller="+917000000078",
        conversation_id="b",
        event_id="b",
        parameters={"loan_id": "LN-8"},
        results={"intent": "refused"},
    )
    await send(service, make_inbound(caller=spelled), stranger)
    before = await read_outcomes(service)
    assert len(before["callers"]["values"]) == 2
    assert NATIONAL in {secret for _, _, secret in await find_everywhere(database, *SECRETS)} or " " in spelled
    if not are_bodies_kept:
        await forget_bodies(database)

    erased = await erase(service)
    assert (erased["state"], erased["recipients"]) == ("done", 1)
    assert await find_everywhere(database, *SECRETS, spelled) == []
    after = await read_outcomes(service)
    assert [row["from_phone"] for row in after["callers"]["values"]] == ["+917000000078"]
    for name in ("recipients", "statuses", "attempts", "duration_seconds", "by_hour", "sources"):
        assert after[name] == before[name]
    rows = (await service.get(f"/v1/batch-calls/{WINDOW}/recipients")).json()["data"]
    assert sorted((row["state"], row["from_phone"]) for row in rows) == [
        ("completed", "+917000000078"), ("erased", None),
    ]  # fmt: skip
    await check_sound(database)


async def test_a_caller_is_erased_from_every_batch_from_what_was_taken_back_and_from_what_waits(
    service: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "SEARCH_ROWS", 1)
    await make_dashboard_batch(database, WINDOW, 0)
    await send(service, make_inbound(), make_inbound(event_id="earlier", status="busy", conversation_id=f"{CALL}_2"))
    await register(database, WINDOW, [(1, {"loan_id": "LN-1"})])  # takes the facts back: the number is in no file
    assert await database.pool.fetchval("SELECT count(*) FROM past_facts WHERE from_phone = $1", CALLER) == 2
    await database.pool.execute("DELETE FROM event_bodies")
    await make_dashboard_batch(database, WINDOW + 1, 48)
    await send(
        service,
        make_inbound(event_id="second batch", conversation_id=f"{CALL}_3", began=BEGAN.replace(day=18, hour=12)),
        make_inbound(event_id="waits", conversation_id=f"{CALL}_4", agent_id=99),
    )
    await erase(service)
    assert await find_everywhere(database, *SECRETS) == []
    await check_sound(database)


async def test_a_recipient_of_a_file_that_the_erased_number_called_keeps_what_was_said(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    call = make_payload(recipient=1, event_id="from the erased number")
    call["data"]["call"]["from_phone"] = CALLER
    await send(service, call, make_payload(recipient=2))
    await forget_bodies(database)
    version = (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients/1")).json()["data"]["version"]
    assert (await erase(service))["recipients"] == 0
    shown = (await service.get(f"/v1/batch-calls/{BATCH_ID}/recipients/1")).json()["data"]
    assert (shown["state"], shown["results"], shown["from_phone"], shown["version"]) == (
        "completed", {"intent": "promise_to_pay"}, None, version,
    )  # fmt: skip
    callers = (await read_outcomes(service, BATCH_ID))["callers"]["values"]
    assert [(row["from_phone"], row["attempts"]) for row in callers] == [(CALLERS_NUMBER, 1)]
    assert await find_everywhere(database, NATIONAL) == []
    await check_sound(database)


async def test_a_call_from_before_the_erasure_that_comes_late_does_not_bring_its_caller_back(
    service: httpx.AsyncClient, database: Database
) -> None:
    await make_dashboard_batch(database, WINDOW, 0)
    await send(service, make_inbound())
    await erase(service)
    facts = (await read_outcomes(service))["attempts"]["total"]
    await send(
        service,
        make_inbound(event_id="late", conversation_id=f"{CALL}_5", began=BEGAN.replace(hour=13)),
        make_inbound(event_id="late stray", conversation_id=f"{CALL}_6", agent_id=99),
    )
    assert await find_everywhere(database, *SECRETS) == []
    assert (await read_outcomes(service))["attempts"]["total"] == facts + 1
    disposition = (await service.get("/v1/events/late%20stray")).json()["data"]["disposition"]
    assert disposition == "erased"
    assert not any([batch.counters async for batch in Rebuilder(database).rebuild()])
    await check_sound(database)


async def test_a_caller_number_of_the_agent_stays_when_somebody_else_is_erased(
    service: httpx.AsyncClient, database: Database
) -> None:
    await store_batch(database.url)
    await send(service, make_payload(recipient=1, agent_id=AGENT_ID), make_payload(recipient=2))
    await service.post("/v1/erasures", json={"phone": "+917000000001"})
    callers = (await read_outcomes(service, BATCH_ID))["callers"]["values"]
    assert [(row["from_phone"], row["attempts"]) for row in callers] == [(CALLERS_NUMBER, 2)]
