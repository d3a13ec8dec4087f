"""Whether another attempt follows: the truth table of the webhook's retry block."""

from datetime import UTC, datetime
from typing import Any

import pytest

from service.formant.events import STATUSES, is_final
from tests.factories import decode, make_payload

LATER = datetime(2026, 3, 16, 12, tzinfo=UTC)
UNANSWERED = [status for status in STATUSES if status != "completed"]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("next_retry_at", [None, LATER])
def test_the_providers_word_that_it_was_the_last_attempt_decides(status: str, next_retry_at: datetime | None) -> None:
    assert is_final(status, True, next_retry_at)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("is_last", [False, None])
def test_a_named_time_of_the_next_attempt_means_that_one_follows(status: str, is_last: bool | None) -> None:
    assert not is_final(status, is_last, LATER)


@pytest.mark.parametrize("status", UNANSWERED)
def test_a_call_that_may_be_retried_waits_even_without_a_time(status: str) -> None:
    assert not is_final(status, False, None)


def test_a_completed_call_without_a_next_attempt_is_final_even_when_more_were_allowed() -> None:
    assert is_final("completed", False, None)


@pytest.mark.parametrize("status", STATUSES)
def test_without_any_word_about_retries_the_attempt_is_the_last(status: str) -> None:
    assert is_final(status, None, None)


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        ({"attempt_number": 3, "max_attempts": 3, "is_final_attempt": True, "next_retry_at": None}, True),
        ({"attempt_number": 1, "max_attempts": 3, "is_final_attempt": False, "next_retry_at": None}, False),
        ({"attempt_number": 1, "is_final_attempt": False, "next_retry_at": "2026-03-16T12:00:00Z"}, False),
        ({"next_retry_at": "2026-03-16T12:00:00Z"}, False),
        ({"is_final_attempt": "yes", "next_retry_at": "2026-03-16T12:00:00Z"}, False),
        ({}, True),
        (None, True),
        ("soon", True),
    ],
)
def test_the_decoder_reads_it_from_whatever_retry_block_came(retry: Any, expected: bool) -> None:
    payload = make_payload(status="busy")
    payload["data"]["retry"] = retry
    assert decode(payload)[0].is_final is expected


def test_the_decoder_takes_an_absent_retry_block_as_the_last_attempt() -> None:
    assert decode(make_payload(status="no_answer", attempt=None))[0].is_final
