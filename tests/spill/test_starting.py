"""Starting while Postgres or the stream is away."""

import asyncio
import signal

import asyncpg

from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.exposition import read_metric
from tests.factories import make_payload, post_webhook, store_batch
from tests.nats import run_nats
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run, serve

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
            assert await read_metric(service, "outcomes_spill_reachable") == 0
            server.start()
            await cluster.wait_until_drained()  # it has created the stream
            await eventually(lambda: read_metric(service, "outcomes_spill_reachable"))


async def test_a_start_while_no_host_takes_writes_takes_webhooks_and_is_whole_later(
    own_postgres: PostgresServer,
) -> None:
    url = await create_database(own_postgres, "template0")
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start_as_standby)
    async with (
        run_nats() as cluster,
        serve(OUTCOMES_DATABASE_URL=url, OUTCOMES_SPILL_URL=cluster.url) as replica,
    ):
        assert (await post_webhook(replica.client, make_payload())).status_code == 204
        assert (await replica.client.get("/readyz")).json() == {"status": "degraded"}
        await asyncio.to_thread(own_postgres.promote)
        await cluster.wait_until_drained()
        assert (await replica.client.get("/readyz")).json() == {"status": "ready"}


async def test_without_a_spill_an_address_that_takes_no_writes_is_refused_with_the_remedy(
    own_postgres: PostgresServer,
) -> None:
    url = await create_database(own_postgres, "template0")
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start_as_standby)
    for command in ("serve",), ("spill", "status"):
        refused = await run(OUTCOMES, *command, OUTCOMES_DATABASE_URL=url)
        assert (refused.status, "No host of OUTCOMES_DATABASE_URL takes writes" in refused.errors) == (2, True)


async def test_a_database_that_is_missing_when_postgres_is_back_is_used_once_it_is_there(
    own_postgres: PostgresServer,
) -> None:
    url = await create_database(own_postgres, "template0")
    name = url.partition("@/")[2].partition("?")[0]
    administrator = await asyncpg.connect(own_postgres.url("postgres"))
    await administrator.execute(f'ALTER DATABASE "{name}" RENAME TO hidden')
    await administrator.close()
    await asyncio.to_thread(own_postgres.stop, "immediate")
    async with (
        run_nats() as cluster,
        serve(OUTCOMES_DATABASE_URL=url, OUTCOMES_SPILL_URL=cluster.url) as replica,
    ):
        assert (await post_webhook(replica.client, make_payload())).status_code == 204
        await asyncio.to_thread(own_postgres.start)
        await eventually(lambda: [line for line in replica.log if line["event"] == "start_refused"])
        administrator = await asyncpg.connect(own_postgres.url("postgres"))
        await administrator.execute(f'ALTER DATABASE hidden RENAME TO "{name}"')
        await administrator.close()
        await cluster.wait_until_drained()
