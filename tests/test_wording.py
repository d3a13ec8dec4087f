"""Codes in words: every code has a sentence, and the sentence has its numbers."""

import ast
import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

import service
from service import wording
from service.alarms.alarms import KINDS
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


LATER = NOW + timedelta(hours=2)
TIME = "2026-11-28 18:05 UTC"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason("in_progress", "in_progress_count", 14), "14 recipients are in progress"),
        (Reason("in_progress", "in_progress_count", 1), "1 recipient is in progress"),
        (Reason("waiting_for_retry", "pending_retry_count", 1), "1 recipient waits for a retry"),
        (Reason("lagging", "no_answer_count", 1200),
         "1,200 recipients that the provider counts as no answer are missing here"),
        (Reason("no_call_known_here", recipients=[7]), "no call of recipient 7 is known here"),
        (Reason("waits_for_retry_here", recipients=[7, 8]), "2 recipients wait for a retry here"),
        (Reason("waits_for_retry_here", recipients=list(range(19))), "19 recipients wait for a retry here"),
        (Reason("waits_for_retry_here", recipients=list(range(20))), "20 or more recipients wait for a retry here"),
        (Reason("more_recipients_than_total", count=2),
         "2 more recipients have calls here than the provider says the batch has"),
        (Reason("stuck", count=699, since=NOW),
         f"nothing has happened to 699 recipients since {TIME}, though the provider counts them as unfinished"),
        (Reason("stuck", count=1),
         "nothing has happened to 1 recipient for long, though the provider counts it as unfinished"),
        (Reason("beyond_grace", "completed_count", ours=1510, theirs=2538),
         "completed (1,510 here, 2,538 there) differs"),
        (Reason("beyond_grace", "success_rate", ours=84.04, theirs=90.0), "success rate (84 here, 90 there) differs"),
        (Reason("beyond_grace", "busy_count"), "busy differs"),
        (Reason("within_grace", "busy_count", ours=1, theirs=2, expected_at=NOW),
         f"busy (1 here, 2 there) differs, which late webhooks may explain (final about {TIME})"),
        (Reason("within_grace", "busy_count", ours=2, theirs=1, expected_at=NOW),
         f"busy (2 here, 1 there) differs, with more here than there (final about {TIME})"),
        (Reason("provider_inconsistent", "total_processed_is_the_sum_of_finals", 500, theirs=501),
         "the provider's own figures contradict each other: it has processed 501 in total and 500 by outcome"),
        (Reason("provider_inconsistent", "success_rate_is_success_of_total", 84.0, theirs=86.6),
         "the provider's own figures contradict each other: its success rate is 86.6% where its counts give 84%"),
        (Reason("provider_inconsistent", "of_a_newer_version", 1, theirs=2),
         "the provider's own figures contradict each other"),
        (Reason("healing"), "calls are being looked up in the provider's conversations"),
        (Reason("healing", done=0, total=1), "1 missing outcome is being looked up"),
        (Reason("healing", done=0, total=2, expected_at=NOW),
         f"2 missing outcomes are being looked up (final about {TIME})"),
        (Reason("healing", done=1, total=2), "1 of 2 missing outcomes was found so far"),
        (Reason("healing", done=483, total=1600), "483 of 1,600 missing outcomes were found so far"),
        (Reason("healing", done=1, total=1),
         "the missing outcome has been found, and the rest of the provider's list is being read"),
        (Reason("healing", done=1600, total=1600),
         "all 1,600 missing outcomes have been found, and the rest of the provider's list is being read"),
        (Reason("healed", count=0), "no call was fetched from the provider's conversations"),
        (Reason("healed", count=1), "1 call was fetched from the provider's conversations"),
        (Reason("details_outstanding", count=1), "the results of 1 call are still being fetched"),
        (Reason("of_a_newer_version", count=2), "of_a_newer_version"),
    ],
)  # fmt: skip
def test_a_reason_is_a_sentence_with_its_numbers(reason: Reason, sentence: str) -> None:
    assert wording.describe_reason(reason) == sentence


def test_the_times_of_a_sentence_are_those_of_the_readers_zone() -> None:
    reason = Reason("details_outstanding", count=2, expected_at=NOW)
    assert wording.describe_reason(reason, ZoneInfo("Asia/Kolkata")).endswith("(final about 2026-11-28 23:35 IST)")


def test_a_verdict_in_words_lists_all_its_reasons() -> None:
    reasons = [Reason("in_progress", count=14), Reason("waiting_for_retry", count=1)]
    text = "The provider has not finished: 14 recipients are in progress; 1 recipient waits for a retry."
    assert wording.describe_verdict("open", reasons) == text
    assert wording.describe_verdict("complete", []) == "Final: the figures equal the provider's."
    settling = wording.describe_verdict("settling", [Reason("within_grace", "busy_count", expected_at=NOW)])
    assert settling.endswith(f"busy differs, which late webhooks may explain (final about {TIME}).")


def test_figures_that_differ_for_the_same_reason_share_a_sentence() -> None:
    def differ(figure: str, ours: int, theirs: int, at: datetime = NOW) -> Reason:
        return Reason("within_grace", figure, ours=ours, theirs=theirs, expected_at=at)

    reasons = [
        differ("completed_count", 510, 538), differ("in_progress_count", 35, 0), differ("busy_count", 3, 9),
        differ("total_processed", 565, 600), differ("failed_count", 1, 2, LATER),
    ]  # fmt: skip
    assert [text for _, text in wording.describe_reasons(reasons)] == [
        "completed (510 here, 538 there), busy (3 here, 9 there) and total processed (565 here, 600 there) differ, "
        f"which late webhooks may explain (final about {TIME})",
        f"in progress (35 here, 0 there) differs, with more here than there (final about {TIME})",
        "failed (1 here, 2 there) differs, which late webhooks may explain (final about 2026-11-28 20:05 UTC)",
    ]
    lagging = [Reason("lagging", "busy_count", 1), Reason("lagging", "completed_count", 4)]
    ((first, text),) = wording.describe_reasons(lagging)
    assert first is lagging[0]
    assert text == "5 recipients that the provider counts (1 as busy and 4 as completed) are missing here"
    missing = [Reason("not_reported", "busy_count"), Reason("not_reported", "failed_count")]
    assert wording.describe_verdict("unverified", missing).endswith("the provider gives no figure for busy and failed.")


def test_reasons_about_different_recipients_keep_their_own_sentences() -> None:
    reasons = [Reason("in_progress", count=1), Reason("in_progress", count=2), Reason("in_progress", count=2)]
    assert len(wording.describe_reasons(reasons)) == 2  # the same is not said twice


def test_no_sentence_says_that_late_webhooks_explain_more_here_than_there() -> None:
    for ours, theirs in itertools.product((0, 1, 2, 1000), repeat=2):
        for code in wording.REASONS:
            text = wording.describe_reason(Reason(code, "busy_count", 1, ours=ours, theirs=theirs))
            assert ours <= theirs or "may explain" not in text


def test_outstanding_results_are_noted_beside_the_goal() -> None:
    text = "The results of 3,190 calls are still being fetched, so more recipients may meet the goal."
    assert wording.note_goal(3190) == text
    assert wording.note_goal(0) is wording.note_goal(None) is None


WRONG = re.compile(
    r"\b([02-9]|[\d,]*\d{2}) (more )?(recipient|call|missing outcome)\b|\b1 (recipients|calls|missing outcomes)\b"
    r"|(?<!results of )\b1 (more )?(recipient|call) (are|were|have|wait|fit)\b"
    r"|(recipients|calls) (was|has|waits|fits)\b"
)


@pytest.mark.parametrize("count", [None, 0, 1, 2, 1234])
@pytest.mark.parametrize("code", wording.REASONS)
def test_every_reason_reads_well_whatever_it_counts(code: str, count: int | None) -> None:
    """Prints the sentences: read them aloud after a change (``pytest -s``)."""
    named = list(range(min(count or 0, wording.MAX_NAMED)))
    for done in sorted({0, min(1, count or 0), (count or 0) // 2, count or 0}):
        reason = Reason(
            code,
            "busy_count",
            count,
            named,
            done=done,
            total=count,
            ours=done,
            theirs=count,
            expected_at=NOW,
            since=NOW,
        )
        for each in (reason, msgspec.structs.replace(reason, ours=None, expected_at=None, since=None)):
            text = wording.describe_reason(each)
            print(f"{code} {count}: {text}")
            assert "{" not in text
            assert "  " not in text
            assert not WRONG.search(text), text
            assert text[:1] != text[:1].upper() or text[:1].isdigit()


UNUSUAL = re.compile(
    r"\b(groups?|lag\w*|cursors?|reconcil\w*|drift\w*|heal\w*|snapshots?|ingest\w*|arrivals?|(un)?attribut\w*|replicas?"
    r"|GET|PUT|POST|DELETE)\b"
)
"""Words of those who build the service, not of those who read its figures."""


@pytest.mark.parametrize("name", KINDS)
def test_an_alarm_says_what_it_means_and_what_to_do_in_a_plain_sentence_each(name: str) -> None:
    for text in KINDS[name][1:]:
        assert not UNUSUAL.search(text), text
        assert text[0].isupper()
        assert not text.endswith(".")
        assert ". " not in text


def test_what_people_are_shown_has_no_words_of_engineers() -> None:
    tables = (
        wording.VERDICTS, wording.DISPOSITIONS, wording.UNATTRIBUTED, wording.QUARANTINED, wording.STATES,
        wording.COMPARED, wording.COMPARISON_NOTES,
    )  # fmt: skip
    shown = [words.sentence for table in tables for words in table.values()]
    shown += [wording.describe_reason(Reason(code, "busy_count", 2, ours=1, theirs=2)) for code in wording.REASONS]
    shown += [*wording.DIFFERENCES.values(), *wording.METHODS.values()]
    assert [text for text in shown if UNUSUAL.search(text)] == []


def test_actors_are_named_by_what_they_are() -> None:
    assert wording.describe_actor("setting") == "The key in OUTCOMES_API_KEY"
    assert wording.describe_actor("key: crm") == "Key crm"
    assert wording.describe_actor("user: 7") == "user: 7"
