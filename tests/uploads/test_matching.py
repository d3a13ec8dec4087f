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
        # Its size never decides: at an unknown time any batch may be it, and from long before none is.
        (listed(made=None, name="April", recipients=4000), False, False, True),
        (listed(made=None, name="April", recipients=2), False, False, True),
        (listed(made=-25 * 60, name="April", recipients=2), False, False, False),
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
        (
            "the rival's may be one that cannot be read, so the first is not shown to be the rival's",
            upload(first_call=15), [upload(2, first_call=5)], [listed(), listed(457, made=10), listed(0, made=2)], None,
        ),
    ],
)  # fmt: skip
def test_what_is_adopted_without_a_person(
    case: str, own: Contender, rivals: list[Contender], free: list[Listed], expected: int | None
) -> None:
    unreadable = [batch for batch in free if not batch.id]
    free = [batch for batch in free if batch.id]
    decision = decide(own, rivals, free, AGENT, is_contradicted=False, unreadable=unreadable)
    assert (decision.batch_id, bool(decision.reason)) == (expected, expected is None), case


MUTE = listed(0, made=None, name=None, recipients=None)


@pytest.mark.parametrize(
    ("case", "own", "rivals", "entry", "is_adopted"),
    [
        ("nothing is known of it", upload(), [], MUTE, False),
        ("its agent alone is unknown", upload(), [], listed(0, agent_id=None), False),
        ("made since", upload(), [], MUTE._replace(created_at=SENT), False),
        ("its size is like it", upload(), [], MUTE._replace(recipients=1), False),
        ("made long before", upload(), [], MUTE._replace(created_at=SENT - timedelta(days=2)), True),
        ("another name", upload(), [], MUTE._replace(name="April"), True),
        ("too large", upload(), [], MUTE._replace(recipients=4), True),
        ("calls", upload(first_call=5), [], MUTE, True),
        ("calls, and it has the name", upload(first_call=5), [], MUTE._replace(name="march"), False),
        ("called before it was made", upload(first_call=5), [], listed(0, made=10), True),
        ("calls, and a rival without any", upload(first_call=5), [upload(2)], MUTE, False),
        ("calls, and a rival of any size", upload(first_call=5), [upload(2)], listed(0, recipients=9), False),
        ("called before it was made, and a rival", upload(first_call=5), [upload(2)], listed(0, made=10), True),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_may_be_the_upload_unless_it_says_otherwise_or_calls_decide(
    case: str, own: Contender, rivals: list[Contender], entry: Listed, *, is_adopted: bool
) -> None:
    decision = decide(own, rivals, [listed()], AGENT, is_contradicted=False, unreadable=[entry])
    assert (decision.batch_id == 456, "1 entry of the provider's list cannot" in decision.reason) == (
        is_adopted, not is_adopted,
    ), case  # fmt: skip


def test_where_nothing_fits_the_entries_that_cannot_be_read_are_named() -> None:
    unreadable = [MUTE, MUTE, listed(0, made=-9999, name="x")]
    decision = decide(upload(), [], [], AGENT, is_contradicted=False, unreadable=unreadable)
    assert decision.batch_id is None
    assert "no batch that fits it yet, and 2 entries of the provider's list cannot be read" in decision.reason


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
