"""Groups events by call, and combines what they say about it."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from service.formant.events import Event

SAME_CALL = timedelta(seconds=2)
REF_COLUMN = "outcome_ref"
BLANKS = " \t\n\v\f\r\u00a0"
NUMBER = re.compile("-?[0-9]{1,100}([.][0-9]{1,100})?")
LAST = datetime.max.replace(tzinfo=UTC)

Parameters: TypeAlias = dict[str, Any]


class Call(NamedTuple):
    """What the events of a call say together."""

    events: list[Event]
    phone: str | None
    began: datetime | None
    parameters: Parameters | None
    """Without the reference; None if no event has parameters."""
    received_at: datetime
    """When the first of its events arrived."""

    @property
    def conversation_id(self) -> str:
        """The conversation that all its events share."""
        return self.events[0].conversation_id


def read_call(events: list[Event]) -> Call:
    """Combines the events of one call."""
    return Call(
        events,
        next((event.phone for event in events if event.phone and event.agent_id is not None), None),
        min((moment for event in events if (moment := get_began(event))), default=None),
        next((found for event in events if (found := read_parameters(event)) is not None), None),
        min(event.received_at for event in events),
    )


def comparable(parameters: Parameters) -> Parameters:
    """Normalises parameters: drops empty ones, strips blanks, and reads numeric text as a number."""
    meant = {name: _read_value(value) for name, value in parameters.items()}
    return {name: meant[name] for name in sorted(meant) if meant[name] not in (None, "")}


def _read_value(value: Any) -> Any:
    if isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        return Fraction(str(value))
    text = value if isinstance(value, str) or value is None else json.dumps(value)
    text = text and text.strip(BLANKS)
    return Fraction(text) if text and NUMBER.fullmatch(text) else text


def read_parameters(event: Event) -> Parameters | None:
    """The event's normalised call parameters without the reference; None if it has none at all."""
    content = _read_content(event)
    return content and {name: value for name, value in content.items() if name != REF_COLUMN}


def _read_content(event: Event) -> Parameters | None:
    content = json.loads(event.parameters)
    return comparable(content) or None if isinstance(content, dict) else None


def get_began(event: Event) -> datetime | None:
    """The best time in the event for the start of the call."""
    return event.started_at or event.ended_at or event.occurred_at


def is_certainly_final(event: Event) -> bool:
    """Whether no further attempt follows. For an uncompleted call only a webhook with an attempt number states it; for
    others it is inferred."""
    is_said = event.source == "webhook" and event.attempt_number is not None
    return event.is_final and (event.status == "completed" or is_said)


def is_same_call(one: Event, other: Event) -> bool:
    """Whether two events of a conversation, both with some time, report the same call.

    They do if their starts agree. If one has no start but only an end or the time of the event, that time must lie
    within the other's, and neither numbers nor parameters may contradict. Calls of one conversation never overlap.
    """
    times = []
    for event in (one, other):
        known = [moment for moment in (event.started_at, event.ended_at, event.occurred_at) if moment is not None]
        times.append((get_began(event), max(known)))
    (began, until), (other_began, other_until) = times
    assert began is not None
    assert other_began is not None
    if one.started_at is not None and other.started_at is not None:
        return abs(began - other_began) <= SAME_CALL
    if _contradicts(one, other):
        return False
    return began <= other_until + SAME_CALL and other_began <= until + SAME_CALL


def _contradicts(one: Event, other: Event) -> bool:
    """Whether two events both have attempt numbers or parameters (the reference included) that differ."""
    numbers = {one.attempt_number, other.attempt_number} - {None}
    contents = [content for event in (one, other) if (content := _read_content(event))]
    return len(numbers) == 2 or (len(contents) == 2 and contents[0] != contents[1])


def group_calls(events: Iterable[Event]) -> list[list[Event]]:
    """Groups events by call; those with different phones apart. An event without any time belongs to the only call of
    its conversation that it does not contradict; if there is not exactly one, it forms its own call."""
    conversations: defaultdict[tuple[str, str | None], list[Event]] = defaultdict(list)
    for event in events:
        conversations[event.conversation_id, event.phone].append(event)
    return [call for several in conversations.values() for call in _group_conversation(several)]


def _group_conversation(events: list[Event]) -> list[list[Event]]:
    groups: list[list[Event]] = []
    timed = [event for event in events if get_began(event) is not None]
    for event in sorted(timed, key=lambda event: (event.started_at is None, get_began(event))):
        same = [group for group in groups if any(is_same_call(event, other) for other in group)]
        groups = [group for group in groups if group not in same]
        groups.append([event, *(other for group in same for other in group)])
    alone: list[list[Event]] = []
    for event in events:
        if get_began(event) is None:
            same = [group for group in groups + alone if not any(_contradicts(event, other) for other in group)]
            if len(same) == 1:
                same[0].append(event)
            else:
                alone.append([event])
    return groups + alone
