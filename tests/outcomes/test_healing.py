"""Healing as a reason of the verdict: how far it has come now, not at the last comparison."""

from service.outcomes.healing import update_reasons
from service.outcomes.shapes import Reason

STORED = [Reason("healing", done=0, total=5), Reason("within_grace", "busy_count")]


def test_the_progress_of_healing_replaces_that_of_the_last_comparison() -> None:
    now = Reason("healing", done=3, total=5)
    assert update_reasons(STORED, now) == [now, STORED[1]]


def test_healing_that_is_over_is_no_reason_any_more() -> None:
    assert update_reasons(STORED, None) == [STORED[1]]
