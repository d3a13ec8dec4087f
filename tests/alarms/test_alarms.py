"""Each alarm is raised in its situation, names the remedy, and clears when the situation is over."""

import time

import httpx

from service.store.database import Database
from tests.conftest import StartService
from tests.exposition import read_alarms, read_metric
from tests.factories import make_payload, post_webhook, store_batch
from tests.provider import connect_provider, upload


async def schedule(database: Database, batch_key: int, verdict: str, reasons: str = "[]", healed: int = 0) -> None:
    """Stores what a reconciler would have written two hours ago."""
    await database.pool.execute(
        "INSERT INTO batch_schedules (batch_key, due_at, verdict, verdict_since, last_reconciled_at) "
        "VALUES ($1, now() + interval '1 day', $2, now() - interval '2 hours', now() - interval '2 hours')",
        batch_key, verdict,
    )  # fmt: skip
    await database.pool.execute(
        "INSERT INTO reconciliations (batch_key, compared_at, last_compared_at, verdict, reasons, differences, "
        "inconsistencies, calls_spent, healed) "
        "VALUES ($1, now() - interval '2 hours', now(), $2, $3::jsonb, '[]', '[]', 5, $4)",
        batch_key, verdict, reasons, healed,
    )  # fmt: skip


async def test_a_quiet_service_has_no_alarms(service: httpx.AsyncClient) -> None:
    assert await read_alarms(service) == {}
    assert await read_metric(service, "outcomes_alarms", name="drift") == 0
    assert (await service.get("/v1/alarms", headers={"authorization": ""})).status_code == 401


async def test_alarms_and_alerts_link_to_the_runbook_where_its_address_is_set(start_service: StartService) -> None:
    url = "https://wiki.example.com/runbook"
    async with start_service(OUTCOMES_RUNBOOK_URL=url) as service:
        await post_webhook(service, b"not JSON")
        assert (await read_alarms(service))["quarantine_not_empty"]["runbook"] == f"{url}#quarantine_not_empty"
        assert await read_metric(service, "outcomes_runbook_info", url=url) == 1
    async with start_service() as service:
        assert (await read_alarms(service))["quarantine_not_empty"]["runbook"] is None
        assert "outcomes_runbook_info{" not in (await service.get("/metrics")).text


async def test_rejected_signatures_raise_an_alarm_from_the_fifth_on_and_are_counted_once(
    service: httpx.AsyncClient, database: Database
) -> None:
    for _ in range(4):
        assert (await post_webhook(service, make_payload(), secret="wrong")).status_code == 401
    assert "signatures_rejected" not in await read_alarms(service)
    assert (await post_webhook(service, make_payload(), secret="wrong")).status_code == 401
    for _ in range(2):
        alarm = (await read_alarms(service))["signatures_rejected"]
        assert (alarm["count"], alarm["severity"]) == (5, "page")
        assert "FORMANT_WEBHOOK_SECRET" in alarm["remedy"]
    assert await read_metric(service, "outcomes_alarms", name="signatures_rejected") == 5
    await database.pool.execute("UPDATE rejected_signatures SET minute = minute - interval '20 minutes'")
    assert await read_alarms(service) == {}


async def test_quarantined_and_unattributed_events_raise_alarms_until_they_are_attributed(
    service: httpx.AsyncClient, database: Database
) -> None:
    assert (await post_webhook(service, b"not JSON")).status_code == 204
    assert (await post_webhook(service, make_payload(recipient=None, phone="+1999"))).status_code == 204
    alarms = await read_alarms(service)
    assert {name: alarm["count"] for name, alarm in alarms.items()} == {
        "quarantine_not_empty": 1,
        "unattributed_events": 1,
    }
    assert all(alarm["since"] for alarm in alarms.values())
    await database.pool.execute("UPDATE quarantine SET replayed_at = now()")
    await database.pool.execute("DELETE FROM unattributed")
    assert await read_alarms(service) == {}


async def test_alarms_for_drift_healing_and_silence_name_their_batches(
    service: httpx.AsyncClient, database: Database
) -> None:
    silent = '[{"code": "webhooks_silent"}]'
    await schedule(database, await store_batch(database.url, 1, batch_id=1, ref_token="a"), "drifted")
    await schedule(database, await store_batch(database.url, 1, batch_id=2, ref_token="b"), "complete", healed=7)
    await schedule(database, await store_batch(database.url, 1, batch_id=3, ref_token="c"), "open", silent)
    alarms = await read_alarms(service)
    assert {name: (alarm["count"], alarm["batches"]) for name, alarm in alarms.items()} == {
        "drift": (1, [1]),
        "healed_events": (7, [2]),
        "webhooks_silent": (1, [3]),
    }
    assert await read_metric(service, "outcomes_alarm_age_seconds", name="drift") > 7000
    await database.pool.execute("UPDATE batch_schedules SET verdict = 'complete', verdict_since = now()")
    await database.pool.execute("UPDATE reconciliations SET compared_at = now() - interval '2 days'")
    assert await read_alarms(service) == {}


async def test_an_upload_whose_outcome_is_unknown_pages_until_it_is_resolved(start_service: StartService) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        sandbox.sandbox.faults.next_upload = "refused_after_body"
        assert (await upload(service)).status_code == 504
        assert (await read_alarms(service))["uploads_unknown"]["severity"] == "page"
        await service.post("/v1/uploads/1/resolve", json={"not_sent": True})
        assert "uploads_unknown" not in await read_alarms(service)


async def test_a_failing_provider_raises_an_alarm_until_it_answers(
    service: httpx.AsyncClient, database: Database
) -> None:
    async def record(*, failed: bool) -> None:
        await database.queries.record_provider_answer(
            database.pool, account="a", failed=failed, limit=None, remaining=None, reset_seconds=None,
            block_seconds=0.0, backoff_seconds=0.5, now=None,
        )  # fmt: skip

    await database.pool.execute("INSERT INTO provider_budgets (account) VALUES ('a')")
    for _ in range(4):
        await record(failed=True)
    assert await read_alarms(service) == {}
    await record(failed=True)
    assert (await read_alarms(service))["provider_unreachable"]["since"] is not None
    await record(failed=False)
    assert await read_alarms(service) == {}
