"""What the database must hold after any history, computed in plain Python from the events alone.

Written from design.md alone: the merge order is deliberately implemented a second time.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from service.formant.events import Event

_RANK = ("unreachable", "no_answer", "busy", "failed", "telephony_failed", "socket_failure", "completed")


class Outcome(NamedTuple):
    """A recipient's current state."""

    state: str
    attempts: int
    event_id: str


class Expected(NamedTuple):
    """Everything that is derived from a set of events of one batch."""

    outcomes: dict[int, Outcome]
    outcome_counts: Counter[tuple[str, int, str]]
    talk_seconds: Counter[str]
    result_counts: Counter[tuple[str, str]]
    attempt_counts: Counter[tuple[datetime | None, str]]


def _or_lowest(value: Any) -> tuple[bool, Any]:
    """Sorts None below everything."""
    return (value is not None, value if value is not None else 0)


def _called_at(event: Event) -> datetime | None:
    return event.started_at or event.ended_at or event.occurred_at


def _knows_results(event: Event) -> bool:
    return _says_something(json.loads(event.results))


def _says_something(value: Any) -> bool:
    """Whether there is anything in it but empty objects, lists, texts and nulls."""
    if isinstance(value, str):
        return value.strip() != ""
    if isinstance(value, dict):
        return any(_says_something(each) for each in value.values())
    if isinstance(value, list):
        return any(_says_something(each) for each in value)
    return value is not None


def _preference(event: Event) -> tuple[Any, ...]:
    return (
        _or_lowest(event.occurred_at),
        event.source,
        _RANK.index(event.status),
        event.is_final,
        _knows_results(event),
        _or_lowest(event.duration_seconds),
        _or_lowest(event.started_at),
        _or_lowest(event.ended_at),
        _or_lowest(event.next_retry_at),
        _or_lowest(event.max_attempts),
        _or_lowest(event.failure_reason),
        event.trace_id is not None,
        event.event_id,
        _or_lowest(event.from_phone),
        _or_lowest(event.trace_id),
    )


def _is_shadowed(event: Event, events: list[Event]) -> bool:
    """Whether an unnumbered fact adds nothing: a numbered one, or any webhook if it is healed, has the same
    conversation and moment."""
    if event.attempt_number is not None:
        return False
    for other in events:
        if other.conversation_id != event.conversation_id:
            continue
        if other.attempt_number is None and (event.source, other.source) != ("healed", "webhook"):
            continue
        if event.started_at is None:
            return True
        if other.started_at is not None:
            if abs(event.started_at - other.started_at) <= timedelta(seconds=2):
                return True
        elif other.occurred_at is None or event.started_at <= other.occurred_at + timedelta(seconds=2):
            return True
    return False


def _stand_in(winner: Event, events: list[Event]) -> Event:
    """The event that shows an attempt: results that are known are not lost to a winner without any."""
    if winner.status != "completed" or _knows_results(winner):
        return winner

    def is_same_call(other: Event) -> bool:
        if other.attempt_number is not None:
            return other.attempt_number == winner.attempt_number
        if winner.attempt_number is not None or (other.source, winner.source) == ("healed", "webhook"):
            starts = (other.started_at, winner.started_at)
            return None not in starts and abs(starts[0] - starts[1]) <= timedelta(seconds=2)  # type: ignore[operator]
        return _second(other) == _second(winner)

    agreeing = [
        other
        for other in events
        if (other.conversation_id, other.status, other.is_final)
        == (winner.conversation_id, winner.status, winner.is_final)
        and _knows_results(other)
        and is_same_call(other)
    ]
    return max(agreeing, key=_preference, default=winner)


def _second(event: Event) -> datetime | None:
    return event.started_at and event.started_at.replace(microsecond=0)


def _find_attempts(events: list[Event]) -> list[tuple[Event, Event]]:
    """The winning event of each attempt, and the one that shows it."""
    winners: dict[tuple[Any, ...], Event] = {}
    for event in events:
        if _is_shadowed(event, events):
            continue
        second = _second(event) if event.attempt_number is None else None
        key = (event.conversation_id, event.attempt_number, second)
        if key not in winners or _preference(event) > _preference(winners[key]):
            winners[key] = event
    return [(winner, _stand_in(winner, events)) for winner in winners.values()]


def _find_latest(attempts: list[tuple[Event, Event]], events: list[Event]) -> Event:
    def order(attempt: tuple[Event, Event]) -> tuple[Any, ...]:
        event, shown = attempt
        number: float
        if event.attempt_number is not None:
            number = event.attempt_number
        else:
            mine = _or_lowest(_called_at(event))
            earlier = [
                other.attempt_number
                for other in events
                if other.attempt_number is not None and _or_lowest(_called_at(other)) <= mine
            ]
            number = max(earlier, default=0) + 0.5
        return (number, _or_lowest(_called_at(shown)), event.conversation_id)

    return max(attempts, key=order)[1]


def _slot(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def expect(events: Iterable[Event]) -> Expected:
    """What must follow from these events, in any order and with any repetitions."""
    by_recipient: defaultdict[int, list[Event]] = defaultdict(list)
    for event in {(event.event_id, event.digest): event for event in events}.values():
        assert event.ref_no is not None
        by_recipient[event.ref_no].append(event)
    expected = Expected({}, Counter(), Counter(), Counter(), Counter())
    for recipient, mine in by_recipient.items():
        attempts = _find_attempts(mine)
        latest = _find_latest(attempts, mine)
        state = latest.status if latest.is_final else "pending_retry"
        expected.outcomes[recipient] = Outcome(state, len(attempts), latest.event_id)
        expected.outcome_counts[state, len(attempts), latest.source] += 1
        expected.talk_seconds[state] += latest.duration_seconds or 0
        said = json.loads(latest.results)
        for name, value in said.items() if isinstance(said, dict) else ():
            expected.result_counts[name, "(null)" if value is None else str(value)] += 1
        for _, attempt in attempts:
            expected.attempt_counts[_slot(_called_at(attempt)), attempt.status] += 1
    return expected
