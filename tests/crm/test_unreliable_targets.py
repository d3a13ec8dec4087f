"""Whatever a CRM answers: only what it confirmed is reported as sent, and every record is in the CRM, or in the
failures file, or not acknowledged. The CRM itself is the witness."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import stamina

from service.crm.delivery import Delivery
from service.crm.exchange import SyncError
from service.crm.failures import FailuresFile, open_failures
from service.crm.feed import FeedReader, open_feed
from service.crm.hubspot import HubSpotTarget
from service.crm.job import FieldCheck, SyncJob, Totals
from service.crm.mapping import HubSpot, Mapping, read_mapping
from service.crm.records import Mapper
from service.crm.targets import CrmTarget, GenericTarget, open_target
from tests.conftest import API_KEY
from tests.crm.hubspot_server import TOKEN
from tests.crm.sync_process import call
from tests.crm.unreliable_targets import Behaviour, UnreliableCrm, UnreliableHubSpot
from tests.factories import store_batch

RECIPIENTS = 23
KEYS = {f"LN-{number}" for number in range(1, RECIPIENTS + 1)} - {"LN-5"}  # who has no loan
SEEDS = range(20)
RUNS = 4


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
async def positions(service: httpx.AsyncClient, database_url: str) -> dict[str, int]:
    """A service whose feed has an outcome of each recipient: their positions by key."""
    await store_batch(database_url, RECIPIENTS)
    connection = await asyncpg.connect(database_url)
    await connection.execute('UPDATE recipients SET parameters = \'{"loan_id": ""}\' WHERE recipient_no = 5')
    await connection.close()
    await call(service, *range(1, RECIPIENTS + 1))
    entries = (await service.get("/v1/feed", params={"limit": 1000})).json()["data"]
    return {entry["parameters"]["loan_id"] or "456-5": entry["position"] for entry in entries}


def make_mapping(kind: str, consumer: str, url: str) -> Mapping:
    target = {"kind": kind, "url": url, "batch_size": 7} | ({"object_type": "contacts"} if kind == "hubspot" else {})
    content: dict[str, Any] = {"consumer": consumer, "target": target, "properties": {"outcome": "state"}}
    return read_mapping(content | {"key": {"parameter": "loan_id", "property": "loan_id"}}, "map.toml")


class Program:
    """The parts of the job, with connections that outlast a run."""

    def __init__(self, http: httpx.AsyncClient, crm: httpx.AsyncClient, mapping: Mapping) -> None:
        self.feed = FeedReader(http, is_patient=False)
        self.mapping = mapping
        self._crm = crm

    def start(self) -> tuple[SyncJob, Delivery]:
        """A job with its delivery, as after a restart."""
        given = self.mapping.target
        target: CrmTarget = (
            HubSpotTarget(self._crm, given, self.mapping.key)
            if isinstance(given, HubSpot)
            else GenericTarget(self._crm, given)
        )
        fields = FieldCheck(self.feed, self.mapping, is_done=False)
        job = SyncJob(self.feed, Mapper(self.mapping), fields, self.mapping, 10, lambda _: None, Totals())
        return job, Delivery(target, is_patient=False, give_up_after=10)

    async def get_position(self) -> int:
        return (await self.feed.get_place(self.mapping.consumer)).position

    async def run(self, failures: FailuresFile) -> tuple[Totals, bool]:
        """One run; returns whether it completed."""
        job, delivery = self.start()
        try:
            await job.run(await self.get_position(), delivery, failures, is_following=False)
        except SyncError:
            return job.totals, False
        assert job.totals.unsettled == 0
        return job.totals, True


@pytest.mark.parametrize("kind", ["hubspot", "generic"])
async def test_only_confirmed_records_count_as_sent_and_no_recipient_is_missing(
    service: httpx.AsyncClient, positions: dict[str, int], tmp_path: Path, kind: str
) -> None:
    ends = Counter[bool]()
    async with open_feed(str(service.base_url), API_KEY) as http, open_target(TOKEN) as client:
        for seed in SEEDS:
            behaviour = Behaviour(seed)
            crm = UnreliableHubSpot(behaviour) if kind == "hubspot" else UnreliableCrm(behaviour)
            serving: AbstractAsyncContextManager[Any] = crm.serve()
            async with serving:
                program = Program(http, client, make_mapping(kind, f"{kind}-{seed}", crm.url))
                ends += await live(program, behaviour, positions, tmp_path)
            await service.delete(f"/v1/feed/consumers/{kind}-{seed}")
    assert min(ends[True], ends[False]) > len(SEEDS) / 2  # of both kinds enough was seen


async def live(program: Program, behaviour: Behaviour, positions: dict[str, int], folder: Path) -> Counter[bool]:
    """Runs a job against a CRM that recovers in the end; returns how many runs completed and how many did not."""
    witness, ends = behaviour.witness, Counter[bool]()
    name = program.mapping.consumer
    with open_failures(folder / name) as failures:
        for number in range(RUNS + 1):
            if number == RUNS:
                behaviour.badness = behaviour.outage = 0
            witness.confirmed.clear()
            witness.named_twice.clear()
            totals, is_whole = await program.run(failures)
            ends[is_whole] += 1
            assert (totals.sent, witness.named_twice) == (len(witness.confirmed), set()), name
            failed, settled = {each.key for each in failures.read()}, await program.get_position()
            missing = {key for key in positions if positions[key] <= settled} - witness.accepted - failed
            assert missing == set(), name
            if is_whole and number < RUNS:
                await program.feed.acknowledge(name, 0, program.mapping.digest(), is_reset=True)
        assert settled == max(positions.values())
        job, delivery = program.start()
        await job.retry(delivery, failures)
        assert {each.key for each in failures.read()} == {"456-5"}
        assert witness.accepted == KEYS, name
    return ends
