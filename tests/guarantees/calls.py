"""Which events speak of one call, and what they say together of it."""

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
    """Without the reference; None where none of the events has any."""
    received_at: datetime
    """When the first of its events came."""

    @property
    def conversation_id(self) -> str:
        """The same for all its events."""
        return self.events[0].conversation_id


def read_call(events: list[Event]) -> Call:
    """The call that these events speak of."""
    return Call(
        events,
        next((event.phone for event in events if event.phone and event.agent_id is not None), None),
        min((moment for event in events if (moment := get_began(event))), default=None),
        next((told for event in events if (told := read_parameters(event)) is not None), None),
        min(event.received_at for event in events),
    )


def comparable(parameters: Parameters) -> Parameters:
    """Parameters by what they mean: empty ones are absent, and what reads as a number is one; without blanks around."""
    meant = {name: _read_value(value) for name, value in parameters.items()}
    return {name: meant[name] for name in sorted(meant) if meant[name] not in (None, "")}


def _read_value(value: Any) -> Any:
    if isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        return Fraction(str(value))
    text = value if isinstance(value, str) or value is None else json.dumps(value)
    text = text and text.strip(BLANKS)
    return Fraction(text) if text and NUMBER.fullmatch(text) else text


def read_parameters(event: Event) -> Parameters | None:
    """The event's call parameters as they are compared, without the reference; None where it has none at all."""
    content = _read_content(event)
    return content and {name: value for name, value in content.items() if name != REF_COLUMN}


def _read_content(event: Event) -> Parameters | None:
    content = json.loads(event.parameters)
    return comparable(content) or None if isinstance(content, dict) else None


def get_began(event: Event) -> datetime | None:
    """When the call began, as far as the event says."""
    return event.started_at or event.ended_at or event.occurred_at


def is_certainly_final(event: Event) -> bool:
    """Whether no further attempt follows. Of a call that was not completed only a webhook that numbers its attempt says
    so: the others leave it to be inferred."""
    is_said = event.source == "webhook" and event.attempt_number is not None
    return event.is_final and (event.status == "completed" or is_said)


def is_same_call(one: Event, other: Event) -> bool:
    """Whether two events of a conversation, neither of which is without any time, speak of one call.

    They do when they begin together; or where one does not say when the call began, but only that it ended or was told
    of, when that lies within what the other says, and neither numbers nor parameters are against it. Calls of one
    conversation never overlap.
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
    """Whether two events number their attempts, or give parameters, and differently: a reference is one of them."""
    numbers = {one.attempt_number, other.attempt_number} - {None}
    told = [content for event in (one, other) if (content := _read_content(event))]
    return len(numbers) == 2 or (len(told) == 2 and told[0] != told[1])


def group_calls(events: Iterable[Event]) -> list[list[Event]]:
    """Events by the call that they speak of. One that tells no time at all is of its conversation's only call, or of
    one that nothing else is known of."""
    conversations: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        conversations[event.conversation_id].append(event)
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
