"""Lists of the provider that hold what they should not, ignore the offset or never end stop nothing, and are shown."""

from typing import Any

import httpx
import pytest

from service.errors import ProviderError
from service.formant.client import FormantClient, open_http
from service.sandbox import RunningSandbox, sample_contacts
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.uploads.discovery import Discoverer
from service.uploads.registration import Registrar
from tests.conftest import StartService
from tests.exposition import read_alarms
from tests.guarantees.healing import assert_healed, play
from tests.provider import KEY, connect_provider
from tests.uploads.dashboard import make_elsewhere

ODD = {"not_an_object": 4, "no_id": 4, "no_agent": 2}


class Replica:
    """Discovers when it is asked to."""

    def __init__(self, database: Database, client: FormantClient, metrics: Metrics) -> None:
        registrar = Registrar(database)
        self.metrics = metrics
        self.discoverer = Discoverer(database, client, registrar, metrics, interval_seconds=60)

    async def discover(self) -> None:
        await self.discoverer.discover()

    def count(self, reason: str) -> float | None:
        labels = {"list": "batches", "reason": reason}
        return self.metrics.registry.get_sample_value("outcomes_provider_list_flaws_total", labels)


async def discover(database: Database, sandbox: RunningSandbox, *, passes: int = 1) -> Replica:
    metrics = Metrics()
    async with open_http(sandbox.base_url, KEY) as http:
        replica = Replica(database, FormantClient(http, metrics), metrics)
        for _ in range(passes):
            await replica.discover()
    return replica


async def read_batches(service: httpx.AsyncClient) -> list[dict[str, Any]]:
    batches: list[dict[str, Any]] = (await service.get("/v1/batch-calls")).json()["data"]
    return batches


async def test_odd_entries_are_skipped_counted_and_shown_until_the_list_is_clean_again(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        await make_elsewhere(sandbox, sample_contacts(3, seed=1), "First")
        await discover(database, sandbox)
        assert await read_alarms(service) == {}
        (known,) = await read_batches(service)

        sandbox.sandbox.faults.odd_entries = True
        await make_elsewhere(sandbox, sample_contacts(2, seed=2), "Second")
        replica = await discover(database, sandbox, passes=2)
        second, first = await read_batches(service)
        assert (first, first["name"]) == (known | {"status": "7"}, "First")
        assert (second["agent_id"], second["name"], second["created_at"]) == (123, "", known["created_at"])
        alarm = (await read_alarms(service))["provider_list_flawed"]
        assert (alarm["count"], alarm["reasons"], alarm["batches"]) == (10, ODD, [900001, 900002])
        assert [replica.count(reason) for reason in ODD] == [2 * count for count in ODD.values()]

        sandbox.sandbox.faults.odd_entries = False
        await discover(database, sandbox)
        assert await read_alarms(service) == {}
        assert [batch["name"] for batch in await read_batches(service)] == ["Second", "First"]


async def test_a_batch_without_an_agent_that_is_known_is_no_flaw(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        sandbox.sandbox.faults.odd_entries = True
        await database.pool.execute(
            "INSERT INTO batches (batch_id, agent_id, name, upload_state, columns) "
            "VALUES (900001, 123, 'Known', 'uploaded', '{}'), (900002, 123, 'Known', 'uploaded', '{}')"
        )
        await discover(database, sandbox)
        alarm = (await read_alarms(service))["provider_list_flawed"]
        assert (alarm["reasons"], alarm["batches"]) == ({"not_an_object": 4, "no_id": 4}, [])
        assert {batch["name"] for batch in await read_batches(service)} == {"Known"}


async def test_a_list_of_batches_that_ignores_the_offset_is_left_and_shown_until_it_ends_again(
    start_service: StartService, database: Database
) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        faults = sandbox.sandbox.faults
        faults.ignore_offset = faults.always_more = True
        await make_elsewhere(sandbox, sample_contacts(3, seed=1))
        await discover(database, sandbox, passes=2)
        assert len(await read_batches(service)) == 1
        assert (await read_alarms(service))["provider_list_flawed"]["reasons"] == {"list_repeats": 1}
        async with open_http(sandbox.base_url, KEY) as http:
            with pytest.raises(ProviderError, match="cannot be read to its end"):
                await FormantClient(http, Metrics()).list_batches()
            faults.ignore_offset = False
            assert len((await FormantClient(http, Metrics()).list_batches()).batches) == 1
        await discover(database, sandbox)
        assert await read_alarms(service) == {}


@pytest.mark.parametrize("total", [20, 150])
async def test_a_walk_through_conversations_ends_when_the_list_ignores_the_offset(
    start_service: StartService, database: Database, total: int
) -> None:
    async with connect_provider(start_service, plays=True) as (service, sandbox):
        batch_id = await play(service, sandbox, drop=0.5, recipients=total)
        faults = sandbox.sandbox.faults
        faults.ignore_offset = faults.always_more = True
        shown = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
        codes = {reason["code"]: reason for reason in shown["reasons"]}
        assert "conversations_list_repeats" in codes
        assert "calls_unknown_there" not in codes  # it was not looked for behind the first page
        assert codes["healed"]["count"] > 0

        faults.ignore_offset = False  # and with that every page but the last is distinguished from the others
        shown = (await service.post(f"/v1/batch-calls/{batch_id}/reconcile")).json()["data"]
        assert shown["verdict"] == "complete"
        assert "conversations_list_repeats" not in {reason["code"] for reason in shown["reasons"]}
        await assert_healed(database, sandbox, batch_id)
