"""The budget: replicas together stay within what the provider allows, and leave it alone when it asks for that."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import stamina.instrumentation

from service.errors import ProviderError
from service.formant.client import FormantClient
from service.reconciliation.budget import Budget
from service.store.database import Database
from service.telemetry.metrics import Metrics
from tests.reconciliation.budgeting import ACCOUNT, BEGIN, Clock, answer, call, limits, open_budget, wait_of


async def test_a_window_is_spent_once_by_all_replicas_together(database: Database) -> None:
    clock = Clock()
    replicas = [open_budget(database, clock) for _ in range(3)]
    waits = await asyncio.gather(*[wait_of(replicas[number % 3]) for number in range(60)])
    assert sum(wait == 0 for wait in waits) == 50


async def test_when_the_window_ends_there_is_a_new_one(database: Database) -> None:
    clock = Clock()
    budget = open_budget(database, clock)
    await call(budget, answer(200, limits(0, BEGIN + timedelta(seconds=20))))
    assert 20 <= await wait_of(budget) <= 22.1
    clock.now += timedelta(seconds=20)
    assert await wait_of(budget) == 0


async def test_what_others_spend_with_the_same_key_counts(database: Database) -> None:
    budget = open_budget(database, Clock())
    await call(budget, answer(200, limits(2, BEGIN + timedelta(seconds=20))))
    assert [await wait_of(budget) > 0 for _ in range(3)] == [False, False, True]


async def test_an_answer_never_gives_back_what_others_have_claimed_meanwhile(database: Database) -> None:
    budget = open_budget(database, Clock())
    async with budget.spend() as note:
        for _ in range(48):
            await budget.take()
        note(answer(200, limits(49, BEGIN + timedelta(seconds=20))))
    assert [await wait_of(budget) > 0 for _ in range(2)] == [False, True]


async def test_an_answer_of_a_window_that_has_ended_says_nothing_about_the_present_one(database: Database) -> None:
    clock = Clock()
    budget = open_budget(database, clock)
    async with budget.spend() as note:
        await call(budget, answer(200, limits(40, BEGIN + timedelta(seconds=5))))
        clock.now += timedelta(seconds=6)
        await budget.take()
        note(answer(200, limits(0, BEGIN + timedelta(seconds=5)), now=clock.now))
    assert await wait_of(budget) == 0


async def test_another_limit_is_learned_from_the_first_answer(database: Database) -> None:
    budget = open_budget(database, Clock())
    await call(budget, answer(200, limits(119, BEGIN + timedelta(seconds=20), limit=120)))
    waits = [await wait_of(budget) for _ in range(120)]
    assert sum(wait == 0 for wait in waits) == 119


async def test_a_clock_of_the_providers_that_is_wrong_makes_no_window_longer(database: Database) -> None:
    wrong = BEGIN + timedelta(hours=3)
    budget = open_budget(database, Clock())
    await call(budget, answer(200, limits(0, wrong + timedelta(seconds=20)), now=wrong))
    assert 20 <= await wait_of(budget) <= 22.1


async def test_background_work_leaves_a_share_to_people(database: Database) -> None:
    clock = Clock()
    background, people = open_budget(database, clock, reserved=0.2), open_budget(database, clock)
    assert sum([await wait_of(background) == 0 for _ in range(50)]) == 40
    assert sum([await wait_of(people) == 0 for _ in range(50)]) == 10


async def test_a_limit_of_one_leaves_background_work_its_turn(database: Database) -> None:
    clock = Clock()
    background = open_budget(database, clock, reserved=0.2)
    await call(background, answer(200, limits(0, BEGIN + timedelta(seconds=1), limit=1)))
    clock.now += timedelta(seconds=1)
    assert await wait_of(background) == 0


@pytest.mark.parametrize("is_date", [False, True])
async def test_after_a_429_no_caller_calls_before_retry_after(database: Database, is_date: bool) -> None:
    later = datetime.now(UTC) + timedelta(seconds=31)
    retry_after = format_datetime(later, usegmt=True) if is_date else "30"
    clock = Clock()
    budget, replica = open_budget(database, clock), open_budget(database, clock)
    await call(budget, answer(429, {"retry-after": retry_after}))
    assert 28 <= await wait_of(replica) <= 35  # up to a tenth more than requested, so that not all come at once
    clock.now += timedelta(seconds=31)
    assert await wait_of(replica) == 0


async def test_failures_make_everybody_back_off_twice_as_long_each_time(database: Database) -> None:
    clock = Clock()
    budget, waits = open_budget(database, clock), []
    for response in (answer(500), None, answer(503)):
        await call(budget, response)
        waits.append(await wait_of(budget))
        clock.now += timedelta(seconds=waits[-1])
    assert 0.37 < waits[0] < 0.72
    assert 0.75 < waits[1] < 1.4
    assert 1.5 < waits[2] < 2.8
    await call(budget, answer(404))
    await call(budget, answer(500))
    assert 0.37 < await wait_of(budget) < 0.72


async def test_the_circuit_opens_after_five_failures_and_lets_one_try(database: Database) -> None:
    clock = Clock()
    budget = open_budget(database, clock, waits=True)
    for _ in range(5):
        await call(budget, answer(500))
    strict = open_budget(database, clock)
    assert await wait_of(strict) > 5
    clock.now += timedelta(seconds=11)
    async with strict.spend() as note:
        assert await wait_of(strict) > 80
        note(answer(500))
    assert await wait_of(strict) > 11
    clock.now += timedelta(seconds=21)
    await call(strict, answer())
    assert [await wait_of(strict) for _ in range(3)] == [0, 0, 0]


async def test_should_the_one_who_tries_die_the_next_may_try(database: Database) -> None:
    clock = Clock()
    budget = open_budget(database, clock, waits=True)
    for _ in range(5):
        await call(budget, answer(500))
    clock.now += timedelta(seconds=11)
    strict = open_budget(database, clock)
    with pytest.raises(asyncio.CancelledError):
        async with strict.spend():
            raise asyncio.CancelledError
    assert await wait_of(strict) > 80
    clock.now += timedelta(seconds=91)
    assert await wait_of(strict) == 0


async def test_a_wait_that_would_be_too_long_is_refused_with_the_time_to_retry(database: Database) -> None:
    clock = Clock()
    budget = Budget(database, ACCOUNT, now=clock.read, sleep=clock.sleep, longest_wait_seconds=60)
    await call(budget, answer(429, {"retry-after": "600"}))
    with pytest.raises(ProviderError) as refused:
        await budget.take()
    assert (refused.value.status, refused.value.type) == (503, "provider_paused")
    assert refused.value.headers == {"retry-after": "600"}
    assert clock.slept == 0


async def test_a_client_with_a_budget_waits_for_it_and_for_nothing_else(database: Database) -> None:
    clock = Clock()
    waits: list[float] = []
    answers = [
        answer(429, {"retry-after": "7"}),
        answer(500),
        httpx.Response(200, content=b'{"data": {"busy_count": 3}}'),
    ]
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
        client = FormantClient(http, Metrics(), open_budget(database, clock, waits=True))
        stamina.instrumentation.set_on_retry_hooks([lambda details: waits.append(details.wait_for)])
        try:
            assert (await client.get_metrics(456)).busy_count == 3
        finally:
            stamina.instrumentation.set_on_retry_hooks([])
    assert waits == [0.0, 0.0]
    assert 7 + 0.37 < clock.slept < 7.8 + 0.72


async def test_a_client_whose_budget_refuses_does_not_insist(database: Database) -> None:
    clock = Clock()
    budget = Budget(database, ACCOUNT, now=clock.read, sleep=clock.sleep, longest_wait_seconds=5)
    transport = httpx.MockTransport(lambda request: answer(429, {"retry-after": "600"}))
    async with httpx.AsyncClient(transport=transport, base_url="https://provider.test") as http:
        with pytest.raises(ProviderError, match="are paused"):
            await FormantClient(http, Metrics(), budget).get_batch(456)
    assert await database.pool.fetchval("SELECT calls_made FROM provider_budgets") == 1
