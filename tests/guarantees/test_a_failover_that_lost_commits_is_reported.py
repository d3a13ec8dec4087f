"""After a failover that lost commits, readers of the lost feed entries get an error from then on, and all others
continue. After a failover that lost none, all readers continue."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.app import prepare_schema
from service.webhooks.backlog import BacklogLimits
from tests.conftest import StartService, create_database
from tests.eventually import eventually
from tests.factories import make_payload, post_webhook, store_batch
from tests.feed.feeding import read_on
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, run

PATIENT = BacklogLimits(hold_seconds=60.0)
STREAMED = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"


class Pair:
    """A primary with an asynchronous standby, and the address that names both."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer, name: str) -> None:
        self.primary, self.standby, self.name = primary, standby, name
        self.url = f"postgresql://postgres@/{name}?host={primary.folder},{standby.folder}"

    async def catch_up(self) -> None:
        """Waits until the standby has everything."""
        connection = await asyncpg.connect(self.primary.url(self.name))
        await eventually(lambda: connection.fetchval(STREAMED), seconds=60)
        await connection.close()

    async def fail_over(self) -> None:
        """Kills the primary and promotes the standby."""
        self.primary.kill()
        await asyncio.to_thread(self.standby.promote)


@pytest.fixture
async def pair(own_postgres: PostgresServer) -> AsyncIterator[Pair]:
    """A pair with a batch; the standby is up to date."""
    url = await create_database(own_postgres, "template0")
    await prepare_schema(url, may_migrate=True)
    await store_batch(url, 100)
    standby = await asyncio.to_thread(own_postgres.make_standby)
    await asyncio.to_thread(standby.start)
    yield Pair(own_postgres, standby, url.partition("?")[0].rpartition("/")[2])
    await asyncio.to_thread(standby.remove)


async def test_a_reader_of_lost_entries_gets_an_error_however_many_entries_follow(
    start_service: StartService, pair: Pair
) -> None:
    async with start_service(PATIENT, OUTCOMES_DATABASE_URL=pair.url) as service:

        async def send(*recipients: int) -> None:
            for recipient in recipients:
                assert (await post_webhook(service, make_payload(recipient=recipient))).status_code == 204

        await send(1, 2, 3)
        await service.put("/v1/feed/consumers/crm", json={"position": 2})
        kept = (await read_on(service))[-1]["position"]
        await pair.catch_up()
        await asyncio.to_thread(pair.standby.stop)
        await send(4, 5)
        lost = (await read_on(service))[-1]["position"]
        pair.primary.kill()
        await asyncio.to_thread(pair.standby.start)
        await asyncio.to_thread(pair.standby.promote)
        await send(6)
        await send(*range(10, 20))  # would pass the lost position if positions continued from the last kept one
        for _ in range(2):
            answer = await service.get("/v1/feed", params={"after": lost})
            assert (answer.status_code, f"after {kept} is gone" in answer.text) == (409, True), answer.text
            await send(*range(20, 30))
        assert [entry["recipient"] for entry in await read_on(service, kept)] == [6, *range(10, 20), *range(20, 30)]
        refused = await service.put("/v1/feed/consumers/crm", json={"position": lost})
        assert refused.status_code == 409
        # The consumer's acknowledgement of lost entries is lost too: it gets no error until the feed is restarted.
        assert (await service.get("/v1/feed", params={"consumer": "crm"})).status_code == 200
        restarted = await run(OUTCOMES, "restart-feed", OUTCOMES_DATABASE_URL=pair.standby.url(pair.name))
        assert restarted.status == 0, restarted
        assert (await service.get("/v1/feed", params={"consumer": "crm"})).status_code == 409


async def test_after_a_failover_that_lost_nothing_every_reader_continues(
    start_service: StartService, pair: Pair
) -> None:
    async with start_service(PATIENT, OUTCOMES_DATABASE_URL=pair.url) as service:
        for recipient in (1, 2, 3):
            assert (await post_webhook(service, make_payload(recipient=recipient))).status_code == 204
        (*_, end) = [entry["position"] for entry in await read_on(service)]
        await service.put("/v1/feed/consumers/crm", json={"position": end})
        await pair.catch_up()
        await pair.fail_over()
        assert (await post_webhook(service, make_payload(recipient=4))).status_code == 204
        for params in ({"after": end}, {"consumer": "crm"}):
            page = (await service.get("/v1/feed", params=params)).json()
            assert [entry["recipient"] for entry in page["data"]] == [4]
