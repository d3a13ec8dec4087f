"""The acknowledged-event checker, and what properties of stored events need, as fixtures."""

import asyncio
from collections.abc import Callable, Iterator

import asyncpg
import pytest

from service.store.database import connect
from tests.guarantees.checker import Checker
from tests.guarantees.damage import NOTES, TALLY


@pytest.fixture
def checker(record_property: Callable[[str, object], None]) -> Iterator[Checker]:
    """A checker whose tally appears in the table at the end of the run."""
    checker = Checker()
    yield checker
    if checker.tally is not None:
        record_property(TALLY, list(checker.tally))
        record_property(NOTES, checker.notes)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs the examples of a property, since hypothesis calls plain functions."""
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture
def connection(runner: asyncio.Runner, database_url: str) -> Iterator[asyncpg.Connection]:
    """A connection on the runner's loop, to the test's database."""
    opened = runner.run(connect(database_url))
    yield opened
    runner.run(opened.close())
