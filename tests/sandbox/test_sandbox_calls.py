"""The sandbox's calls: plausible, seeded, and counted as the contract says."""

import asyncio
import re
from array import array
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.sandbox import sample_contacts
from service.sandbox.calls import Call, derive_uuid, draw_call, draw_results, join_dialogue, write_dialogue
from service.sandbox.clock import SteppedClock, Timeline
from service.sandbox.contacts import Contacts, read_contacts
from service.sandbox.dialler import Dialler
from service.sandbox.faults import Faults
from service.sandbox.options import STATUSES, SandboxOptions
from service.sandbox.records import Attempt, Batch, Journal, Records


def draw_many(seed: int = 1) -> list[Call]:
    return [draw_call(seed, 1, row, 1, completed_share=0.5) for row in range(4000)]


def test_about_half_of_the_dials_are_completed_and_no_answer_is_the_most_frequent_failure() -> None:
    counts = Counter(call.status for call in draw_many())
    assert 0.45 < counts["completed"] / 4000 < 0.55
    order = [status for status, _ in counts.most_common()]
    assert order[:5] == ["completed", "no_answer", "busy", "unreachable", "failed"]
    assert set(order) == set(STATUSES)


def test_completed_calls_last_around_ninety_seconds_and_unconnected_ones_have_no_duration() -> None:
    calls = draw_many()
    talks = sorted(call.duration_seconds or 0 for call in calls if call.status == "completed")
    assert 80 < talks[len(talks) // 2] < 100
    assert talks[0] >= 5
    for call in calls:
        assert call.is_connected is (call.status in ("completed", "socket_failure", "telephony_failed"))
        assert (call.failure_reason is None) is (call.status == "completed")


def test_a_call_depends_on_seed_batch_row_and_attempt_and_on_nothing_else() -> None:
    call = draw_call(1, 2, 3, 1, completed_share=0.5)
    assert call == draw_call(1, 2, 3, 1, completed_share=0.5)
    places = ((9, 2, 3, 1), (1, 9, 3, 1), (1, 2, 9, 1), (1, 2, 3, 9))
    others = {draw_call(*place, completed_share=0.5).seconds_before for place in places}
    assert call.seconds_before not in others
    assert len(others) == 4
    assert derive_uuid(1, "a", 2) != derive_uuid(1, "a", 3)


def test_busy_is_retried_sooner_than_no_answer() -> None:
    longest: dict[str, float] = {}
    for call in draw_many():
        longest[call.status] = max(longest.get(call.status, 0.0), call.retry_factor)
    assert longest["busy"] < 0.5 < 0.9 < longest["no_answer"] <= 1.1


def test_a_script_sets_the_outcomes_and_its_last_one_applies_to_all_further_attempts() -> None:
    script = ("busy", "completed")
    drawn = [draw_call(1, 1, 0, number, completed_share=0.0, script=script).status for number in (1, 2, 3)]
    assert drawn == ["busy", "completed", "completed"]


def test_results_are_plausible() -> None:
    drawn = [draw_results(1, 1, row, 1, 1_800_000_000.0) for row in range(500)]
    assert len({results["intent"] for results in drawn}) >= 6
    for results in drawn:
        assert isinstance(results["identity_verified"], bool)
        assert results["sentiment"] in ("positive", "neutral", "negative")
        assert ("promise_date" in results) is (results["intent"] == "promise_to_pay")
        words = join_dialogue(write_dialogue({"customer_name": "Rahul"}, results))
        assert re.fullmatch(r"BOT: .*Rahul.*(\n(BOT|HUMAN): .+){4}", words)
    assert 0 < sum("summary" in results for results in drawn) < 250


def test_samples_are_unique_valid_and_repeatable() -> None:
    text = sample_contacts(5000, seed=4)
    assert text == sample_contacts(5000, seed=4) != sample_contacts(5000, seed=5)
    assert text.startswith("customer_phone,customer_name,loan_id,due_amount\n")
    rows = [line.split(",") for line in text.splitlines()[1:]]
    assert len({row[0] for row in rows}) == len(rows) == 5000
    for phone, name, loan, amount in rows:
        assert re.fullmatch(r"\+91[6-9]\d{9}", phone)
        assert re.fullmatch(r"LN-\d{5}", loan)
        assert name
        assert int(amount) > 0


_cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=20)


@given(st.lists(st.tuples(_cell, _cell), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_values_come_back_verbatim(cells: list[tuple[str, str]], end: str, has_mark: bool) -> None:
    lines = ["name,customer_phone,note"]
    for name, note in cells:
        quoted = ['"' + value.replace('"', '""') + '"' for value in (name, note)]
        lines.append(f"{quoted[0]},+919876543210,{quoted[1]}")
    text = end.join(lines) + end
    contacts = read_contacts(text.encode("utf-8-sig" if has_mark else "utf-8"))
    read = [contacts.read(row) for row in range(len(contacts))]
    assert read == [("+919876543210", {"name": name, "note": note}) for name, note in cells]


class HandTimeline(Timeline):
    """Collects the planned callbacks, so that the test can run them in any order."""

    def call_at(self, when, callback, *arguments) -> None:  # type: ignore[no-untyped-def]
        self.planned = [*getattr(self, "planned", []), (when, callback, arguments)]


def check_identities(batch: Batch) -> None:
    figures = batch.metrics()
    statuses = ("completed", "busy", "failed", "no_answer", "socket_failure", "unreachable")
    assert figures["total_processed"] == sum(figures[f"{status}_count"] for status in statuses)
    waiting = figures["in_progress_count"] + figures["pending_retry_count"]
    assert figures["total_processed"] + waiting == batch.total
    assert min(figures.values()) >= 0
    states = Counter(batch.find_state(row) for row in range(batch.total))
    assert figures["in_progress_count"] == states["in_progress"]
    assert figures["pending_retry_count"] == states["pending_retry"]
    talks = [
        attempts[-1].duration_seconds or 0 for attempts in batch.attempts.values() if attempts[-1].status == "completed"
    ]
    assert figures["avg_duration_seconds"] == (round(sum(talks) / len(talks), 1) if talks else 0.0)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5), st.data())
def test_the_figures_agree_with_the_recipients_after_every_step_in_any_order(
    seed: int, total: int, lines: int, data: st.DataObject
) -> None:
    timeline = HandTimeline(SteppedClock(0.0, 0), asyncio.Event())
    records = Records(1, "per-attempt", "ended")
    ended: list[Attempt] = []
    dialler = Dialler(
        options=SandboxOptions(lines=lines, completed_share=0.4),
        seed=seed,
        timeline=timeline,
        records=records,
        faults=Faults(),
        journal=Journal(),
        on_end=lambda attempt, call: ended.append(attempt),
    )
    text = "customer_phone\n" + "+919876543210\n" * total
    starts = array("Q", [15 + 14 * row for row in range(total + 1)])
    batch = records.add_batch("b", 1, Contacts(["customer_phone"], text, starts), "", 0.0)
    dialler.begin(batch)
    while timeline.planned:
        when, callback, arguments = timeline.planned.pop(data.draw(st.integers(0, len(timeline.planned) - 1)))
        callback(when, *arguments)
        check_identities(batch)
        assert sum(attempts[-1].status is None for attempts in batch.attempts.values()) <= lines
    assert batch.status == "completed"
    assert batch.settled.is_set()
    assert len(ended) == sum(len(attempts) for attempts in batch.attempts.values())
    assert all(attempts[-1].status == "completed" or len(attempts) == 3 for attempts in batch.attempts.values())
