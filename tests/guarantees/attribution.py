"""Which recipient each call belongs to, computed in plain Python from the set of events and the candidates at the end.

The rule of design.md ("Which batch an event belongs to"), written a second time on purpose and without looking at the
SQL. It knows no order of arrival: what it says must hold once nothing is left to do, whatever came first.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from service.formant.events import Event

SAME_CALL = timedelta(seconds=2)
CLOCK_SKEW = timedelta(minutes=5)
REF_COLUMN = "outcome_ref"
_LAST = datetime.max.replace(tzinfo=UTC)

Parameters: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[object, ...]


class Recipient(NamedTuple):
    """Whom a call may belong to. ``key`` names it within its batch: its row, or phone and parameters in a window."""

    batch: int
    key: Key
    phone: str
    parameters: Parameters


class Candidate(NamedTuple):
    """A batch as it is known at the end. ``rows`` is None for one whose recipients only its calls tell (a window)."""

    batch: int
    existed_from: datetime
    closed_at: datetime | None
    rows: list[Recipient] | None
    total: int | None = None
    is_sent: bool = True
    has_ref_column: bool = False

    def covers(self, began: datetime | None, slack: timedelta = CLOCK_SKEW) -> bool:
        """Whether the batch existed, and was not seen finished, when a call began."""
        if began is None:
            return True
        return self.existed_from - slack <= began and (self.closed_at is None or began <= self.closed_at + slack)


class Place(NamedTuple):
    """Where an event is counted, and by which evidence; or the reason why nowhere."""

    recipient: Recipient | None
    reason: str
    """reference, call, recipient or window; no_batch or ambiguous."""
    full: tuple[int, ...] = ()
    """Windows that had no room for one more recipient."""


MayMake: TypeAlias = Callable[[Candidate, str, Parameters | None, int], bool]


def read_parameters(event: Event) -> Parameters | None:
    """The event's call parameters, without the reference; None where it has none at all."""
    content = json.loads(event.parameters)
    if not isinstance(content, dict) or not content:
        return None
    return {name: value for name, value in content.items() if name != REF_COLUMN}


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
    of, when that lies within what the other says and no attempt's number is against it. Calls of one conversation never
    overlap.
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
    if LIT4H:
        late, early = (one, other) if get_began(one) >= get_began(other) else (other, one)
        if late.started_at is not None:
            return get_began(late) - get_began(early) <= SAME_CALL
        return get_began(late) - get_began(early) <= timedelta(hours=4)
    return began <= other_until + SAME_CALL and other_began <= until + SAME_CALL


LIT4H = bool(__import__("os").environ.get("LIT4H"))


def _contradicts(one: Event, other: Event) -> bool:
    """Whether two events number their attempts, and differently."""
    return None not in (one.attempt_number, other.attempt_number) and one.attempt_number != other.attempt_number


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
        if LIT4H and event.started_at is None and len(same) > 1:
            same = [
                max(
                    same,
                    key=lambda group: max(get_began(e) for e in group if get_began(e) <= get_began(event) + SAME_CALL),
                )
            ]
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


def has_room(window: Candidate, phone: str, parameters: Parameters | None, made: int) -> bool:
    """Whether the provider's total leaves room for one more recipient."""
    return window.total is None or made < window.total


class Attribution:
    """All that the events and the candidates decide.

    ``named`` gives the recipient that an event's reference names, if it names one.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        events: Iterable[Event],
        named: Callable[[Event], Recipient | None],
        may_make: MayMake = has_room,
    ) -> None:
        self._candidates = candidates
        self._may_make = may_make
        self._finals: defaultdict[tuple[int, Key], list[datetime | None]] = defaultdict(list)
        self._conversations: defaultdict[tuple[int, Key], set[str]] = defaultdict(set)
        self._made: defaultdict[int, list[Recipient]] = defaultdict(list)
        self.places: dict[str, Place] = {}
        once = list({event.event_id: event for event in events}.values())
        references = {event.event_id: named(event) for event in once}
        self._bearing = {
            found.batch for event in once if (found := references[event.event_id]) and event.source == "webhook"
        }
        weak = []
        for call in group_calls(once):
            certain = next((found for event in call if (found := references[event.event_id])), None)
            if certain is None:
                weak.append(call)
            for event in call if certain else ():
                by_reference = references[event.event_id]
                self._put(event, Place(by_reference or certain, "reference" if by_reference else "call"))
        for call in sorted(weak, key=lambda call: min(get_began(event) or _LAST for event in call)):
            place = self._find(call)
            for event in call:
                self._put(event, place)

    def made(self, batch: int) -> list[Recipient]:
        """The recipients of a window, as its calls told them."""
        return self._made[batch]

    def _put(self, event: Event, place: Place) -> None:
        found = place.recipient
        if found is not None:
            self._conversations[found.batch, found.key].add(event.conversation_id)
        if found is not None and is_certainly_final(event):
            self._finals[found.batch, found.key].append(get_began(event))
        self.places[event.event_id] = place

    def is_due(self, recipient: Recipient, began: datetime | None) -> bool:
        """Whether nothing final began before."""
        finals = self._finals[recipient.batch, recipient.key]
        if began is None:
            return not finals
        return not any(final is not None and final + SAME_CALL < began for final in finals)

    def _find(self, call: list[Event]) -> Place:
        phone = next((event.phone for event in call if event.phone), None)
        began = min((moment for event in call if (moment := get_began(event))), default=None)
        parameters = next((told for event in call if (told := read_parameters(event)) is not None), None)
        if phone is None or call[0].agent_id is None:
            return Place(None, "no_batch")
        found: list[tuple[Candidate, Recipient]] = []
        full: tuple[int, ...] = ()
        for candidate in self._candidates:
            if not candidate.is_sent or not candidate.covers(began):
                continue
            if candidate.rows is not None:
                found += ((candidate, row) for row in self._find_rows(candidate, phone, began, parameters))
                continue
            several = list(self._look_through(candidate, phone, began, parameters))
            full += (candidate.batch,) * (None in several)
            found += ((candidate, recipient) for recipient in several if recipient is not None)
        found = self._narrow(found, call[0].conversation_id, began, parameters)
        if len(found) != 1:
            return Place(None, "ambiguous" if found else "no_batch", full)
        return self._settle(*found[0], parameters)._replace(full=full)

    def _narrow(
        self,
        found: list[tuple[Candidate, Recipient]],
        conversation: str,
        began: datetime | None,
        parameters: Parameters | None,
    ) -> list[tuple[Candidate, Recipient]]:
        """Those of several that have more evidence than the others: each kind in turn, where it leaves any."""
        has_conversation = [pair for pair in found if conversation in self._conversations[pair[1].batch, pair[1].key]]
        found = has_conversation or found
        known = [pair for pair in found if pair[0].rows is not None or pair[1] in self._made[pair[1].batch]]
        has_equal = [pair for pair in known if pair[1].parameters == parameters]
        found = has_equal or found
        return [pair for pair in found if pair[0].covers(began, timedelta(0))] or found

    def _find_rows(
        self, batch: Candidate, phone: str, began: datetime | None, parameters: Parameters | None
    ) -> Iterator[Recipient]:
        for row in batch.rows or ():
            if row.phone == phone and self.is_due(row, began) and self._may_hold(batch, row, parameters):
                yield row

    def _may_hold(self, batch: Candidate, row: Recipient, parameters: Parameters | None) -> bool:
        """Whether a call with these parameters may be the row's, though no reference says so."""
        if parameters is None:
            return True
        return batch.batch not in self._bearing and (
            row.parameters.items() <= parameters.items()
            or bool(__import__("os").environ.get("LITERAL"))
            and not batch.has_ref_column
        )

    def _look_through(
        self, window: Candidate, phone: str, began: datetime | None, parameters: Parameters | None
    ) -> Iterator[Recipient | None]:
        """Who the call may be to, were it the window's; None where there is no room for one who is new."""
        made = self._made[window.batch]
        held = [recipient for recipient in made if recipient.phone == phone]
        if parameters is None:
            yield from (recipient for recipient in held if self.is_due(recipient, began))
            is_new = not held
        else:
            equal = [recipient for recipient in held if recipient.parameters == parameters]
            blank = [recipient for recipient in held if not recipient.parameters]
            yield from (recipient for recipient in (equal or blank)[:1] if self.is_due(recipient, began))
            is_new = not equal and not blank
        if is_new:
            recipient = Recipient(window.batch, (phone, len(held)), phone, parameters or {})
            yield recipient if self._may_make(window, phone, parameters, len(made)) else None

    def _settle(self, batch: Candidate, recipient: Recipient, parameters: Parameters | None) -> Place:
        if batch.rows is not None:
            return Place(recipient, "recipient")
        made = self._made[batch.batch]
        held = [index for index, other in enumerate(made) if other.key == recipient.key]
        if held and parameters and not recipient.parameters:
            recipient = recipient._replace(parameters=parameters)
            made[held[0]] = recipient
        elif not held:
            made.append(recipient)
        return Place(recipient, "window")
