"""An erased person is nowhere in the database, their calls still count, and later events do not bring them back."""

from typing import Any

import httpx
import pytest

from service.privacy.erasure import Eraser
from service.store.database import Database
from tests.conftest import StartService
from tests.eventually import eventually
from tests.factories import BATCH_ID, decode, encode, phone_of, post_webhook, store_batch
from tests.guarantees.ambiguous_calls import call, make_dashboard_batch, register
from tests.guarantees.erasing import CALL, PHONE, RESULTS, SECRETS, check_sound, fill, make_webhook
from tests.guarantees.whole_database import find_everywhere
from tests.processes import OUTCOMES, run
from tests.webhooks.ingesting import ingest


async def read_counts(service: httpx.AsyncClient, batch_id: int = BATCH_ID) -> dict[str, Any]:
    shown = (await service.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
    return {
        name: shown[name] for name in ("recipients", "statuses", "attempts", "duration_seconds", "by_hour", "sources")
    }


async def test_after_an_erasure_the_database_holds_no_data_of_the_person_and_still_counts_them(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    counts = [await read_counts(service, batch_id) for batch_id in (456, 457)]
    assert {secret for _, _, secret in await find_everywhere(database, *SECRETS)} == set(SECRETS)
    last = await database.pool.fetchval("SELECT max(position) FROM outcomes")

    answer = await service.post("/v1/erasures", json={"phone": f" {PHONE} "})
    assert answer.status_code == 200, answer.text
    erased = answer.json()["data"]
    assert (erased["state"], erased["recipients"], erased["unattributed"], erased["quarantined"]) == ("done", 3, 1, 3)

    assert await find_everywhere(database, *SECRETS) == []
    assert [await read_counts(service, batch_id) for batch_id in (456, 457)] == counts
    await check_sound(database)
    entries = await database.pool.fetch(
        "SELECT state, phone, parameters, position > $1 AS is_new, version FROM outcomes "
        "JOIN recipients USING (batch_key, recipient_no) WHERE recipient_no = 1 ORDER BY batch_key", last,
    )  # fmt: skip
    assert [tuple(row)[:4] for row in entries] == [("erased", None, "{}", True)] * 2
    assert min(row["version"] for row in entries) > 1
    shown = (await service.get("/v1/batch-calls/456/recipients/1")).json()["data"]
    assert (shown["state"], shown["phone"], shown["parameters"], shown["results"]) == ("erased", None, {}, None)
    assert shown["failure_reason"] is None
    other = (await service.get("/v1/batch-calls/456/recipients/2")).json()["data"]
    assert (other["phone"], other["parameters"]) == (phone_of(2), {"loan_id": "LN-2"})
    assert (await service.get("/v1/events/stray")).json()["data"]["disposition"] == "erased"


async def test_later_events_count_and_do_not_bring_the_person_back(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    assert (await service.post("/v1/erasures", json={"phone": PHONE})).status_code == 200
    before = (await read_counts(service))["attempts"]
    facts = await database.pool.fetchval("SELECT count(*) FROM facts")
    again = make_webhook(attempt=4, event_id="late")
    late = [
        make_webhook(attempt=2, event_id="second", results={"intent": "third"}),  # a conflict
        again,
        again,
        make_webhook(recipient=None, ref_token="-", phone=PHONE, attempt=5, event_id="late, by phone", agent_id=8),
        make_webhook(recipient=None, phone=PHONE, event_id="late stray", agent_id=99),
        make_webhook(recipient=None, phone=PHONE, event_id="stray", agent_id=99),
    ]
    for payload in late:
        assert (await post_webhook(service, payload)).status_code == 204
    assert (await post_webhook(service, encode(make_webhook(event_id="unreadable"))[:-10])).status_code == 204
    (healed,) = decode(make_webhook(attempt=None, event_id="healed late", conversation_id=f"{CALL}_9"))
    await ingest(database, healed._replace(source="healed", target="conversations"))

    assert await find_everywhere(database, *SECRETS) == []
    await check_sound(database)
    after = (await read_counts(service))["attempts"]
    assert after["total"] > before["total"]
    assert await database.pool.fetchval("SELECT count(*) FROM facts") == facts + 4
    dispositions = {
        name: (await service.get(f"/v1/events/{name}")).json()["data"]["disposition"]
        for name in ("late", "late, by phone", "late stray")
    }
    assert dispositions == {"late": "applied", "late, by phone": "applied", "late stray": "erased"}
    states = await database.pool.fetch("SELECT DISTINCT state FROM outcomes WHERE recipient_no = 1")
    assert [row["state"] for row in states] == ["erased"]
    assert (await service.get("/v1/quarantine")).json()["data"] == []


@pytest.mark.parametrize("steps", range(8))
async def test_an_erasure_killed_after_any_step_is_finished_by_another_replica(
    start_service: StartService, database: Database, steps: int
) -> None:
    async with start_service() as service:
        await fill(service, database)
    eraser = Eraser(database)
    erasure_id = await eraser.begin(PHONE)
    async with database.pool.acquire() as connection:
        for _ in range(steps):
            await database.queries.erase_step(connection, erasure_id=erasure_id, rows=1)
        killed = connection.transaction()
        await killed.start()
        await database.queries.erase_step(connection, erasure_id=erasure_id, rows=1)
        await killed.rollback()
    async with start_service() as service:
        await eventually(
            lambda: service.get(f"/v1/erasures/{erasure_id}"), lambda answer: answer.json()["data"]["state"] == "done"
        )
    assert await find_everywhere(database, *SECRETS) == []
    await check_sound(database)


async def test_a_rebuild_leaves_an_erased_recipient_erased(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    await service.post("/v1/erasures", json={"phone": PHONE})
    assert (await run(OUTCOMES, "rebuild", OUTCOMES_DATABASE_URL=database.url)).output.strip() == "Nothing was wrong"
    assert (await service.get("/v1/batch-calls/456/recipients/1")).json()["data"]["state"] == "erased"


async def test_the_command_line_erases_and_the_audit_log_omits_the_phone(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    dry = await run(OUTCOMES, "erase", "--dry-run", PHONE, OUTCOMES_DATABASE_URL=database.url)
    assert (dry.status, "recipients: 3" in dry.output) == (0, True)
    assert {secret for _, _, secret in await find_everywhere(database, *SECRETS)} == set(SECRETS)
    done = await run(OUTCOMES, "erase", PHONE, OUTCOMES_DATABASE_URL=database.url)
    assert (done.status, "state: done" in done.output) == (0, True)
    assert await find_everywhere(database, *SECRETS) == []
    (line,) = [line for line in (await service.get("/v1/audit")).json()["data"] if line["action"] == "erasure"]
    assert (line["actor"], line["outcome"], line["details"]["recipients"]) == ("command line", "erased", 3)
    assert line["subject"].startswith("person ")
    assert PHONE[1:] not in done.output + done.errors + dry.errors


@pytest.mark.parametrize(
    "body", [b"", b"no JSON", b"{}", b'{"phone": "12"}', b'{"phone": null}', b'{"phone": "+91", "x": 1}']
)
async def test_a_request_without_a_phone_is_refused_and_changes_nothing(
    service: httpx.AsyncClient, database: Database, body: bytes
) -> None:
    answer = await service.post("/v1/erasures", content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
    assert "phone" in answer.json()["error"]["message"]
    assert await database.pool.fetchval("SELECT count(*) FROM erasures") == 0


async def test_a_dry_run_counts_and_changes_nothing(service: httpx.AsyncClient, database: Database) -> None:
    await fill(service, database)
    answer = await service.post("/v1/erasures", json={"phone": PHONE, "dry_run": True})
    counts = {name: value for name, value in answer.json()["data"].items() if value is not None}
    assert counts == {"state": "dry_run", "recipients": 3, "attempts": 7, "unattributed": 1, "held_rows": 0}
    assert await database.pool.fetchval("SELECT count(*) FROM erased_phones") == 0
    assert (await service.get("/v1/batch-calls/456/recipients/1")).json()["data"]["phone"] == PHONE


async def test_an_erased_person_who_is_uploaded_again_is_known_again(
    service: httpx.AsyncClient, database: Database
) -> None:
    await fill(service, database)
    await service.post("/v1/erasures", json={"phone": PHONE})
    await store_batch(database.url, 2, batch_id=459, ref_token="ab1e", agent_id=8)
    assert (
        await post_webhook(service, make_webhook(ref_token="ab1e", agent_id=8, event_id="new call"))
    ).status_code == 204
    shown = (await service.get("/v1/batch-calls/459/recipients/1")).json()["data"]
    assert (shown["phone"], shown["state"], shown["results"]) == (PHONE, "completed", RESULTS)


async def test_readers_see_an_erased_person_as_erased_who_had_been_withdrawn_from_a_batch(
    service: httpx.AsyncClient, database: Database
) -> None:
    await make_dashboard_batch(database, 900, 0)
    await ingest(database, call("stranger", 3, 1), call("first", 1, 1))
    await register(database, 900, [(1, {"loan_id": "LN-1"}), (2, {"loan_id": "LN-2"})])
    shown = (await service.get("/v1/batch-calls/900/recipients")).json()["data"]
    (withdrawn,) = [row for row in shown if row["state"] == "withdrawn"]
    end = (await service.get("/v1/feed")).json()["next"]
    eraser = Eraser(database)
    await eraser.finish(await eraser.begin(phone_of(3)))
    (change,) = (await service.get("/v1/feed", params={"after": end})).json()["data"]
    assert (change["recipient"], change["state"], change["phone"]) == (withdrawn["recipient"], "erased", None)
    assert change["version"] == withdrawn["version"] + 1
    again = (await service.get("/v1/batch-calls/900/recipients")).json()["data"]
    assert {row["recipient"]: row["state"] for row in again} == {
        row["recipient"]: "erased" if row == withdrawn else row["state"] for row in shown
    }
