"""Which events are of one call: the function in the database says the same as the oracle, whatever the events."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.formant.events import Event
from tests.factories import BEGAN, decode, make_payload
from tests.guarantees.calls import get_began, group_calls

moments = st.none() | st.integers(0, 8).map(lambda n: BEGAN + n * timedelta(seconds=1.5))


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Events of two conversations that overlap, touch and contradict each other in every way."""
    (base,) = decode(make_payload())
    return [
        base._replace(
            event_id=f"e{n}",
            conversation_id=draw(st.sampled_from("ab")),
            started_at=draw(moments),
            ended_at=draw(moments),
            occurred_at=draw(moments),
            attempt_number=draw(st.none() | st.integers(1, 2)),
            parameters=draw(st.sampled_from(["null", '{"topic": "T1"}', '{"topic": "T2"}'])),
        )
        for n in range(draw(st.integers(1, 7)))
    ]


def get_until(event: Event) -> datetime | None:
    return max((moment for moment in (event.started_at, event.ended_at, event.occurred_at) if moment), default=None)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


def test_the_database_and_the_oracle_group_the_same_events_into_calls(
    runner: asyncio.Runner, database_url: str
) -> None:
    connection = runner.run(asyncpg.connect(database_url))

    async def ask(received: list[Event]) -> list[int]:
        calls: list[int] = await connection.fetchval(
            "SELECT group_calls($1, $2, $3, $4, $5, $6::text[]::jsonb[])",
            [event.conversation_id for event in received],
            [event.started_at for event in received],
            [get_began(event) for event in received],
            [
                max((t for t in (event.started_at, event.ended_at, event.occurred_at) if t), default=None)
                for event in received
            ],
            [event.attempt_number for event in received],
            [event.parameters if json.loads(event.parameters) else None for event in received],
        )
        return calls

    @settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(received=events())
    def check(received: list[Event]) -> None:
        calls = runner.run(ask(received))
        found = {frozenset(n for n, call in enumerate(calls) if call == each) for each in calls}
        assert found == {frozenset(received.index(event) for event in call) for call in group_calls(received)}

    check()
    runner.run(connection.close())
