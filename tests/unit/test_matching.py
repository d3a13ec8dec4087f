"""Which batch an upload became, by the rules alone: what fits, what could be it, and what decides among several."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.formant.batches import decode_batch
from service.uploads.matching import Contender, Listed, could_be, decide, fits, fold, is_plausible

SENT = datetime(2026, 3, 16, 10, 30, tzinfo=UTC)
AGENT = 123


def upload(key: int = 1, *, first_call: float | None = None, sent: float = 0, **values: Any) -> Contender:
    """An upload that was sent ``sent`` minutes after the first, and called ``first_call`` minutes after it."""
    called = None if first_call is None else SENT + timedelta(minutes=first_call)
    return Contender(key, "March", 2, SENT + timedelta(minutes=sent), is_sending=False)._replace(
        first_call_at=called, **values
    )


def listed(batch_id: int = 456, *, made: float | None = 1, **values: Any) -> Listed:
    """A batch of the list that was made ``made`` minutes after the first upload was sent."""
    at = None if made is None else SENT + timedelta(minutes=made)
    return Listed(batch_id, AGENT, "March", 2, at)._replace(**values)


@pytest.mark.parametrize(
    ("batch", "is_fit", "is_like", "may_be"),
    [
        (listed(), True, True, True),
        (listed(made=None), True, True, True),
        (listed(made=-4), True, True, True),
        (listed(made=-6), False, True, True),
        (listed(made=-23 * 60), False, True, True),
        (listed(made=-25 * 60), False, False, True),  # its name is enough for a person
        (listed(made=-25 * 60, name="April"), False, False, False),
        (listed(recipients=1), False, True, True),
        (listed(recipients=3), False, True, True),
        (listed(recipients=4), False, False, True),
        (listed(recipients=None), False, True, True),
        (listed(name=" mArch\t"), False, True, True),
        (listed(name=None), False, True, True),
        (listed(name="April", recipients=4000), False, False, True),  # made since: its time is enough for a person
        (listed(agent_id=None), False, True, True),
    ],
)
def test_what_fits_what_is_like_it_and_what_could_be_it(
    batch: Listed, *, is_fit: bool, is_like: bool, may_be: bool
) -> None:
    assert (fits(upload(), batch, AGENT), is_plausible(upload(), batch), could_be(upload(), batch)) == (
        is_fit, is_like, may_be,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("case", "own", "rivals", "free", "expected"),
    [
        ("one fits", upload(), [], [listed()], 456),
        ("none fits", upload(), [], [listed(recipients=1)], None),
        ("two fit", upload(), [], [listed(), listed(457)], None),
        ("another is like it", upload(), [], [listed(), listed(457, recipients=1)], None),
        ("another is unlike it", upload(), [], [listed(), listed(457, name="April")], 456),
        ("no time, no calls", upload(), [], [listed(made=None)], None),
        ("no time, calls", upload(first_call=5), [], [listed(made=None)], 456),
        ("a rival is being sent", upload(first_call=5), [upload(2, is_sending=True)], [listed()], None),
        ("an unlike one is being sent", upload(), [upload(2, is_sending=True, name="April")], [listed()], 456),
        ("a smaller one is being sent", upload(), [upload(2, is_sending=True, recipients=0)], [listed()], 456),
        ("a larger one is being sent", upload(), [upload(2, is_sending=True, recipients=90)], [listed()], None),
        ("a rival", upload(), [upload(2)], [listed()], None),
        ("a rival, and calls of its own", upload(first_call=5), [upload(2)], [listed()], 456),
        ("a rival that calls", upload(), [upload(2, first_call=5)], [listed()], None),
        ("both call, one batch", upload(first_call=5), [upload(2, first_call=5)], [listed()], None),
        ("two batches, no calls", upload(), [upload(2)], [listed(), listed(457, made=10)], None),
        ("called before the second was made", upload(first_call=5), [upload(2)], [listed(), listed(457, made=10)], 456),
        ("called after both", upload(first_call=15), [upload(2)], [listed(), listed(457, made=10)], None),
        ("the rival has the first", upload(), [upload(2, first_call=5)], [listed(), listed(457, made=10)], 457),
        (
            "the rival has the first, and it calls", upload(first_call=15), [upload(2, first_call=5)],
            [listed(), listed(457, made=10)], 457,
        ),
        (
            "the second may have been made before", upload(first_call=5), [upload(2)],
            [listed(), listed(457, made=None)], None,
        ),
        ("only what does not fit was there", upload(first_call=5), [], [listed(457, recipients=1),
                                                                         listed(made=10)], None),
        ("its batch has another name", upload(first_call=15), [upload(2)], [listed(), listed(457, name="x")], None),
    ],
)  # fmt: skip
def test_what_is_adopted_without_a_person(
    case: str, own: Contender, rivals: list[Contender], free: list[Listed], expected: int | None
) -> None:
    decision = decide(own, rivals, free, AGENT, is_contradicted=False)
    assert (decision.batch_id, bool(decision.reason)) == (expected, expected is None), case


def test_calls_to_strangers_speak_against_a_batch_until_there_are_calls_of_its_own() -> None:
    assert decide(upload(), [], [listed()], AGENT, is_contradicted=True).batch_id is None
    assert decide(upload(first_call=5), [], [listed()], AGENT, is_contradicted=True).batch_id == 456


def test_what_the_provider_does_not_say_or_cannot_be_is_unknown() -> None:
    entry = b'{"data": {"id": 1, "agent_id": 2, "name": "", "total_recipients": 0, "created_at": "soon"}}'
    read = Listed.read(decode_batch(entry))
    assert read == Listed(1, 2, None, None, None)
    assert "no name, an unknown number of recipients, made at an unknown time" in read.describe()


def test_names_are_compared_without_case_and_blanks() -> None:
    assert fold("  March\u00a0 Follow\tUps ") == fold("MARCH follow ups") != fold("Marchfollowups")
