"""Codes in words: every code has a sentence, and the sentence has its numbers."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import service
from service import wording
from service.outcomes.filters import STATES
from service.outcomes.shapes import VERDICTS, Reason
from service.webhooks.http import DISPOSITIONS

ROOT = Path(service.__file__).parent
NOW = datetime(2026, 11, 28, 18, 5, 30, tzinfo=UTC)


def list_codes() -> set[str]:
    """The codes of all reasons that are made in the code by name."""
    calls = (
        node
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason" and node.args
    )
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def test_every_code_has_a_sentence() -> None:
    assert set(VERDICTS) == set(wording.VERDICTS)
    assert set(DISPOSITIONS) == set(wording.DISPOSITIONS)
    assert set(STATES) == set(wording.STATES)
    found = list_codes()
    assert "webhooks_silent" in found
    assert found - set(wording.REASONS) == set()


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason("in_progress", "in_progress_count", 14), "14 recipients are being called"),
        (Reason("in_progress", "in_progress_count", 1), "1 recipient is being called"),
        (Reason("waiting_for_retry", "pending_retry_count", 1), "1 recipient waits for a retry"),
        (Reason("lagging", "no_answer_count", 1200),
         "1,200 recipients that the provider counts as no answer are missing here"),
        (Reason("no_call_known_here", recipients=[7]), "no call of recipient 7 is known here"),
        (Reason("waits_for_retry_here", recipients=[7, 8]), "2 or more recipients wait for a retry here"),
        (Reason("more_recipients_than_total", count=2),
         "2 more recipients have calls here than the provider says the batch has"),
        (Reason("of_a_newer_version", count=2), "of_a_newer_version"),
    ],
)  # fmt: skip
def test_a_reason_is_a_sentence_with_its_numbers(reason: Reason, sentence: str) -> None:
    assert wording.describe_reason(reason) == sentence


def test_a_verdict_in_words_lists_all_its_reasons() -> None:
    reasons = [Reason("in_progress", count=14), Reason("waiting_for_retry", count=1)]
    text = "The provider still calls: 14 recipients are being called; 1 recipient waits for a retry."
    assert wording.describe_verdict("open", reasons) == text
    assert wording.describe_verdict("complete", []) == "Final: the figures equal the provider's."
    settling = wording.describe_verdict("settling", [Reason("within_grace", "busy_count", expected_at=NOW)])
    assert settling.endswith("busy differs, which late webhooks may explain (final about 2026-11-28 18:05 UTC).")


@pytest.mark.parametrize("code", wording.REASONS)
@pytest.mark.parametrize("count", [None, 0, 1, 2])
def test_every_reason_is_a_sentence_whatever_it_refers_to(code: str, count: int | None) -> None:
    reason = msgspec.structs.replace(Reason(code), count=count, recipients=list(range(count or 0)))
    assert "{" not in wording.describe_reason(reason)
