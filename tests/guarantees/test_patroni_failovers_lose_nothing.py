"""Postgres under Patroni, as ``deploy/patroni`` sets it up: a switchover and the loss of the primary, under load."""

from collections.abc import AsyncIterator

import pytest

from service.app import prepare_schema
from tests.conftest import make_starter
from tests.factories import store_batch
from tests.guarantees.checker import Checker
from tests.guarantees.patroni import NODES, Cluster, find_missing, run_cluster

RECIPIENTS = 50_000
BEFORE = AFTER = 300
MISSING = find_missing()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster with a batch."""
    async with run_cluster() as cluster:
        await prepare_schema(cluster.url, may_migrate=True)
        await store_batch(cluster.url, RECIPIENTS)
        yield cluster


@pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
@pytest.mark.timeout(300)
async def test_patroni_switches_over_and_then_the_primary_is_killed_with_its_patroni(
    checker: Checker, cluster: Cluster
) -> None:
    async with make_starter(cluster.url)() as service:
        first = await cluster.wait_for_leader(nodes=len(NODES))
        async with checker.loading([service]):
            await checker.wait_for(acknowledged=BEFORE)
            with checker.measuring("a switchover by Patroni"):
                await cluster.switch_over(first)
                second = await cluster.wait_for_leader(nodes=2, other_than=first)
                await checker.wait_for(acknowledged=AFTER)
        await cluster.wait_for_leader(nodes=len(NODES))  # the first primary is a standby now
        async with checker.loading([service]):
            await checker.wait_for(acknowledged=BEFORE)
            with checker.measuring("kill -9 of the primary and its Patroni"):
                await cluster.nodes[second].kill()
                await cluster.wait_for_leader(nodes=2, other_than=second)
                await checker.wait_for(acknowledged=AFTER)
        await cluster.nodes[second].start()
        await cluster.wait_for_leader(nodes=len(NODES), other_than=second)
        await checker.send_again(service)
        assert (await service.get("/readyz")).status_code == 200
    await checker.check(cluster.url)
