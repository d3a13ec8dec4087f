"""The acknowledged-event checker as a fixture."""

from collections.abc import Callable, Iterator

import pytest

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
