"""What operators see at /metrics: each metric explained, and true."""

import re
from datetime import timedelta
from importlib.metadata import version

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.reconciliation.schedule import ProgressWatch
from service.store.database import Database
from service.store.migrations import read_migrations
from service.telemetry.metrics import INTERVAL_SECONDS, LoopLag, Metrics
from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService
from tests.exposition import read_metric
from tests.factories import decode, make_payload, post_webhook, store_batch
from tests.webhooks.ingesting import ingest


def test_every_metric_says_what_it_means_in_a_sentence() -> None:
    families = [family for family in Metrics().registry.collect() if family.name.startswith("outcomes_")]
    assert len(families) > 25
    for family in families:
        assert family.documentation[:1].isupper() or family.documentation[:2] == "1,"
        assert family.documentation.endswith(".")
        if family.name.endswith("_seconds"):
            assert re.search(r"[Ss]econds|Unix time|Time|For how long", family.documentation), family.name


async def test_webhooks_are_timed_by_what_they_were_answered(start_service: StartService, database: Database) -> None:
    async with start_service(BacklogLimits(hold_seconds=0.2)) as service:
        assert await read_metric(service, "outcomes_last_commit_timestamp_seconds") == 0
        assert (await post_webhook(service, make_payload())).status_code == 204
        assert await read_metric(service, "outcomes_last_commit_timestamp_seconds") > 1e9
        assert (await post_webhook(service, make_payload(), secret="wrong")).status_code == 401
        assert (await post_webhook(service, make_payload(), path="/webhooks/formant/nobody")).status_code == 404
        await database.pool.execute("DROP FUNCTION ingest")
        assert (await post_webhook(service, make_payload())).status_code == 503
        for answer, count in (("stored", 1), ("refused", 2), ("deferred", 1)):
            assert await read_metric(service, "outcomes_webhook_seconds_count", answer=answer) == count
        assert await read_metric(service, "outcomes_webhook_seconds_sum", answer="deferred") >= 0.2
        assert await read_metric(service, "outcomes_webhook_seconds_bucket", answer="deferred", le="0.1") == 0
        assert await read_metric(service, "outcomes_webhook_seconds_bucket", answer="deferred", le="10.0") == 1
        assert await read_metric(service, "outcomes_webhook_seconds_bucket", answer="deferred", le="+Inf") == 1


async def test_this_version_the_pool_and_the_process_are_reported(service: httpx.AsyncClient) -> None:
    schema = read_migrations()[-1].name[:4]
    assert await read_metric(service, "outcomes_build_info", version=version("formant-outcomes"), schema=schema) == 1
    assert await read_metric(service, "outcomes_database_connections_max") == 10
    states = [await read_metric(service, "outcomes_database_connections", state=state) for state in ("used", "idle")]
    assert sum(states) >= 1
    assert await read_metric(service, "process_resident_memory_bytes") > 1e6
    assert await read_metric(service, "process_open_fds") > 3


async def test_a_late_event_loop_is_seen() -> None:
    metrics = Metrics()
    times = iter([10.0, 10.0 + INTERVAL_SECONDS + 0.3, 20.0, 20.0 + INTERVAL_SECONDS - 0.1])

    class EnoughError(Exception):
        pass

    async def sleep(seconds: float) -> None:
        assert seconds == INTERVAL_SECONDS

    def clock() -> float:
        try:
            return next(times)
        except StopIteration:
            raise EnoughError from None

    with pytest.raises(EnoughError):
        await LoopLag(metrics, sleep=sleep, clock=clock).run()
    assert metrics.registry.get_sample_value("outcomes_loop_lag_seconds_count") == 2
    assert metrics.registry.get_sample_value("outcomes_loop_lag_seconds_sum") == pytest.approx(0.3)


async def test_the_feeds_end_and_the_longest_due_comparison_are_reported(database: Database, database_url: str) -> None:
    metrics = Metrics()
    key = await store_batch(database_url)
    await ingest(database, *decode(make_payload(), make_payload(recipient=2)))
    now = await database.pool.fetchval("SELECT clock_timestamp()")
    watch = ProgressWatch(database, metrics, now=lambda: now)
    await watch.refresh()
    assert metrics.registry.get_sample_value("outcomes_feed_position") == 2
    assert metrics.registry.get_sample_value("outcomes_reconciliation_overdue_seconds") == 0
    schedule = (
        "INSERT INTO batch_schedules (batch_key, due_at, leased_until) "
        "VALUES ($1, $2::timestamptz - $3 * interval '1 s', $4)"
    )
    other = await store_batch(database_url, batch_id=457, ref_token="other")
    await database.pool.execute(schedule, key, now, 100, now)
    await database.pool.execute(schedule, other, now, 900, now + timedelta(seconds=1))
    await watch.refresh()
    assert metrics.registry.get_sample_value("outcomes_reconciliation_overdue_seconds") == 100, (
        "somebody is at the other"
    )


async def test_the_exposition_can_be_read_and_its_labels_do_not_grow_with_what_callers_write(
    service: httpx.AsyncClient,
) -> None:
    async def list_series() -> set[str]:
        text = (await service.get("/metrics")).text
        families = text_string_to_metric_families(text)
        return {f"{sample.name} {sample.labels}" for family in families for sample in family.samples}

    async def knock(word: str) -> None:
        await service.get(f"/v1/{word}")
        await service.request(word.upper(), "/v1/batch-calls")
        await service.get(f"/v1/batch-calls/{word}/outcomes")
        await post_webhook(service, b"{}", path=f"/webhooks/formant/{word}")

    assert (await service.get("/v1/alarms")).status_code == 200  # the metrics know the alarms from then on
    await list_series()  # asking is counted too
    for word in ("link", "unlink"):
        await knock(word)
    before = await list_series()
    for word in ("purge", "report", "merge", "lock", "unlock"):
        await knock(word)
    assert await list_series() == before
