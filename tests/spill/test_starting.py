"""Starting while Postgres or the stream is away."""

import signal

from tests.conftest import StartService
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook, store_batch
from tests.nats import run_nats
from tests.processes import serve

NOWHERE = "postgresql://postgres@127.0.0.1:1/outcomes"


async def test_a_service_that_never_saw_postgres_ends_with_0_and_keeps_what_it_took() -> None:
    async with run_nats() as cluster:
        async with serve(OUTCOMES_DATABASE_URL=NOWHERE, OUTCOMES_SPILL_URL=cluster.url) as replica:
            assert (await post_webhook(replica.client, make_payload())).status_code == 204
            assert (await replica.client.get("/healthz")).status_code == 200
            assert await read_metric(replica.client, "outcomes_spilled_events_total") == 1
            refused = await replica.client.get("/v1/batch-calls/1/outcomes")
            assert (refused.status_code, refused.json()["error"]["type"]) == (503, "unavailable")
            assert await replica.end(signal.SIGTERM) == 0
        assert await cluster.count_messages() == 1


async def test_a_webhook_with_a_wrong_signature_is_refused_without_postgres_too() -> None:
    async with (
        run_nats() as cluster,
        serve(OUTCOMES_DATABASE_URL=NOWHERE, OUTCOMES_SPILL_URL=cluster.url) as replica,
    ):
        assert (await post_webhook(replica.client, make_payload(), secret="wrong")).status_code == 401
        assert await cluster.count_messages() == 0


async def test_a_service_whose_stream_is_away_works_without_it_and_uses_it_later(
    start_service: StartService, database_url: str
) -> None:
    await store_batch(database_url, 3)
    async with run_nats() as cluster:
        (server,) = cluster.servers
        server.kill()
        async with start_service(OUTCOMES_SPILL_URL=cluster.url) as service:
            assert (await post_webhook(service, make_payload())).status_code == 204
            assert (await service.get("/readyz")).json() == {"status": "ready"}
            server.start()
            await cluster.wait_until_drained()  # it has created the stream
