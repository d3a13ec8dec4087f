"""Which recipient each call belongs to, computed in plain Python from the set of events and the candidates at the end.

The rule of design.md ("Which batch an event belongs to"), deliberately written a second time and independently of the
SQL. It ignores the order of arrival: its result must hold once all work is done, whatever came first.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol, TypeAlias

from service.formant.events import Event
from tests.guarantees.calls import (
    LAST,
    SAME_CALL,
    Call,
    Parameters,
    get_began,
    group_calls,
    is_certainly_final,
    is_same_call,
    read_call,
)

CLOCK_SKEW = timedelta(minutes=5)
FIRST = datetime.min.replace(tzinfo=UTC)
"""The assumed start of a referenced call without a time: it may have been before any other."""

Key: TypeAlias = tuple[object, ...]


class Recipient(NamedTuple):
    """A possible owner of a call. ``key`` identifies it in its batch: its row, or in a window its phone and number."""

    batch: int
    key: Key
    phone: str
    parameters: Parameters


class Candidate(NamedTuple):
    """A batch as known at the end. ``rows`` is None for a window: its recipients are known only from its calls."""

    batch: int
    existed_from: datetime
    closed_at: datetime | None
    rows: list[Recipient] | None
    total: int | None = None
    is_sent: bool = True
    last_call_at: datetime | None = None
    """Start of the last known call; only set for a complete batch."""

    def covers(
        self, began: datetime | None, slack: timedelta = CLOCK_SKEW, received_at: datetime | None = None
    ) -> bool:
        """Whether the batch existed and was not seen finished when a call began. Without a time, no window does."""
        if began is None:
            has_begun = received_at is None or self.existed_from - slack <= received_at
            return self.rows is not None and has_begun
        if self.last_call_at is not None and self.last_call_at + SAME_CALL < began:
            return False
        return self.existed_from - slack <= began and (self.closed_at is None or began <= self.closed_at + slack)


def find_others(events: Iterable[Event]) -> set[str]:
    """The ids of the events of calls that a rule knows to be in no batch: those with a kind, and other events without a
    reference of the same call, whatever their phones."""
    once = list({event.event_id: event for event in events}.values())
    ruled = [event for event in once if event.kind is not None]
    return {event.event_id for event in ruled} | {
        event.event_id
        for event in once
        for other in ruled
        if event.ref_token is None
        and (event.conversation_id, event.agent_id) == (other.conversation_id, other.agent_id)
        and get_began(event) is not None
        and get_began(other) is not None
        and is_same_call(event, other)
    }


def find_disputed(events: Iterable[Event]) -> set[str]:
    """The ids of the events whose call is said to be with another phone, too."""
    conversations: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.phone and get_began(event) is not None:
            conversations[event.conversation_id].append(event)
    return {
        event.event_id
        for several in conversations.values()
        for event, other in itertools.permutations(several, 2)
        if event.phone != other.phone and is_same_call(event, other)
    }


class Place(NamedTuple):
    """Where an event is counted and on what evidence, or the reason why it is not."""

    recipient: Recipient | None
    reason: str
    """reference, call, recipient or window; no_batch or ambiguous."""
    full: tuple[int, ...] = ()
    """Windows without room for another recipient."""


class Chooser(Protocol):
    """Decides who got the last places in a window, which depends on the order of arrival."""

    def has_room(self, window: Candidate) -> bool | None:
        """Whether there was room for another recipient; None if it is not certain."""

    def is_chosen(self, call: Call, place: Place) -> bool:
        """Whether this place is what happened."""


class Attribution:
    """The places of all events, as far as events and candidates decide them.

    ``named`` returns the recipient that an event's reference names, if any.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        events: Iterable[Event],
        named: Callable[[Event], Recipient | None],
        chooser: Chooser | None = None,
        is_late: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        self._candidates = candidates
        self._named = named
        self._chooser = chooser
        self._finals: defaultdict[tuple[int, Key], list[tuple[datetime | None, str]]] = defaultdict(list)
        self._conversations: defaultdict[tuple[int, Key], set[str]] = defaultdict(set)
        self._made: defaultdict[int, list[Recipient]] = defaultdict(list)
        self._proven: defaultdict[tuple[int, Key], list[tuple[datetime, int | None]]] = defaultdict(list)
        """Start and number of each call that a webhook names by reference."""
        self.refuted: set[str] = set()
        """Events that some recipient was due for, had its references not proved otherwise."""
        self.places: dict[str, Place] = {}
        self.calls: dict[str, set[str]] = {}
        """For each event id, the ids of all events of its call."""
        once = list({event.event_id: event for event in events}.values())
        references = {event.event_id: named(event) for event in once}
        self._with_references = {
            found.batch for event in once if (found := references[event.event_id]) and event.source == "webhook"
        }
        disputed = find_disputed(event for event in once if not references[event.event_id] or is_late(event))
        self.places |= dict.fromkeys(disputed, Place(None, "no_batch"))
        once = [event for event in once if event.event_id not in disputed]
        weak = []
        for several in group_calls(once):
            call = read_call(several)
            self.calls |= dict.fromkeys(ids := {event.event_id for event in several}, ids)
            known = {
                event.event_id: found
                for event in several
                if (found := references[event.event_id]) and not is_late(event)
            }
            rest = [event for event in several if event.event_id not in known]
            for event in several:
                if event.event_id in known:
                    self._put(event, Place(known[event.event_id], "reference"), call.began)
            leading = (known[event.event_id] for event in several if event.event_id in known and get_began(event))
            certain = next(leading, None)
            for event in rest if certain else ():
                self._put(event, Place(certain, "call"), call.began)
            if rest and certain is None:
                others = any(
                    get_began(event)
                    and (event.conversation_id, event.phone) == (call.conversation_id, call.phone)
                    and event not in several
                    for event in once
                )
                weak.append((read_call(rest), list(known.values()), others))
        for call, untimed, has_others in sorted(weak, key=lambda each: _order(each[0])):
            fits = next((found for found in untimed if self._fits(found, call, has_others=has_others)), None)
            place = Place(fits, "call") if fits else self._find(call)
            for event in call.events:
                self._put(event, place, call.began)

    def _fits(self, recipient: Recipient, call: Call, *, has_others: bool) -> bool:
        """Whether a call referenced only by an event without a time may be the recipient's: their batch existed and was
        open; and unless it is its conversation's only call, nothing that says when was final before."""
        if not any(each.covers(call.began) for each in self._candidates if each.batch == recipient.batch):
            return False
        finals = [at for at, _ in self._finals[recipient.batch, recipient.key] if at not in (None, FIRST)]
        return not has_others or call.began is None or not any(at + SAME_CALL < call.began for at in finals if at)

    def get_made(self, batch: int) -> list[Recipient]:
        """The recipients of a window, as known from its calls."""
        return self._made[batch]

    def is_due(self, recipient: Recipient, began: datetime | None, *, own: Collection[str] = ()) -> bool:
        """Whether no final event, except a call's ``own`` events, began earlier."""
        finals = [at for at, event_id in self._finals[recipient.batch, recipient.key] if event_id not in own]
        if began is None:
            return not finals
        return not any(final is not None and final + SAME_CALL < began for final in finals)

    def is_refuted(self, recipient: Recipient, events: Collection[Event], began: datetime | None) -> bool:
        """Whether the references of a recipient prove that a call is not theirs: it would be the last, and there is a
        later one; or its number is taken, or none is left for it between those before and after."""
        if began is None:
            return False
        proven = self._proven[recipient.batch, recipient.key]
        later = [number for at, number in proven if at > began + SAME_CALL]
        before = [number for at, number in proven if at < began - SAME_CALL and number is not None]
        after = [number for number in later if number is not None]
        if later and any(is_certainly_final(event) for event in events):
            return True
        numbers = [event.attempt_number for event in events if event.attempt_number is not None]
        number = min(numbers, default=max(before, default=0) + 1)
        return any(number <= other for other in before) or any(number >= other for other in after)

    def _put(self, event: Event, place: Place, began: datetime | None) -> None:
        found = place.recipient
        if found is not None:
            if place.reason == "reference" and event.source == "webhook" and (at := get_began(event)):
                self._proven[found.batch, found.key].append((at, event.attempt_number))
            self._conversations[found.batch, found.key].add(event.conversation_id)
            if is_certainly_final(event):
                moment = get_began(event) or (FIRST if place.reason == "reference" else began)
                self._finals[found.batch, found.key].append((moment, event.event_id))
        self.places[event.event_id] = place

    def _find(self, call: Call) -> Place:
        """The place of a call; if it depends on the room in a window, the one that the chooser confirms."""
        for roomy in self._list_rooms():
            batch, place = self._weigh(call, roomy)
            if self._chooser is None or self._chooser.is_chosen(call, place):
                break
        if batch is None or batch.rows is not None or place.recipient is None:
            return place
        return place._replace(recipient=self._record(place.recipient, call.parameters))

    def _list_rooms(self) -> Iterator[set[int]]:
        """Yields the sets of windows that may have had room: from all of them down to those that certainly had."""
        windows = [each for each in self._candidates if each.rows is None]
        if self._chooser is None:
            yield {each.batch for each in windows if each.total is None or len(self._made[each.batch]) < each.total}
            return
        rooms = {each.batch: self._chooser.has_room(each) for each in windows}
        sure = {batch for batch, room in rooms.items() if room}
        maybe = [batch for batch, room in rooms.items() if room is None]
        for count in range(len(maybe), -1, -1):
            yield from (sure | set(some) for some in itertools.combinations(maybe, count))

    def _weigh(self, call: Call, roomy: set[int]) -> tuple[Candidate | None, Place]:
        """The place that the evidence supports, and its batch."""
        if call.phone is None:
            return None, Place(None, "no_batch")
        for referred in filter(None, map(self._named, call.events)):
            # Too late for its reference: it is theirs if they are due; otherwise it may belong to a copy of the batch.
            return None, Place(referred, "recipient") if self.is_due(referred, call.began) else Place(None, "no_batch")
        found: list[tuple[Candidate, Recipient]] = []
        full: tuple[int, ...] = ()
        for candidate in self._candidates:
            if not candidate.is_sent or not candidate.covers(call.began, received_at=call.received_at):
                continue
            if candidate.rows is not None:
                found += ((candidate, row) for row in candidate.rows if self._may_be(candidate, row, call))
                continue
            several = list(self._list_recipients(candidate, call.phone, call, is_roomy=candidate.batch in roomy))
            full += (candidate.batch,) * (None in several)
            found += ((candidate, recipient) for recipient in several if recipient is not None)
        found = self._narrow(found, call)
        if len(found) != 1:
            return None, Place(None, "ambiguous" if found else "no_batch", full)
        return found[0][0], Place(found[0][1], "recipient" if found[0][0].rows is not None else "window", full)

    def _narrow(self, found: list[tuple[Candidate, Recipient]], call: Call) -> list[tuple[Candidate, Recipient]]:
        """Keeps the pairs with more evidence than the others: filters by each kind in turn if any pair passes."""
        conversing = [pair for pair in found if call.conversation_id in self._conversations[pair[1].batch, pair[1].key]]
        found = conversing or found
        known = [pair for pair in found if pair[0].rows is not None or pair[1] in self._made[pair[1].batch]]
        found = [pair for pair in known if pair[1].parameters == call.parameters] or found
        return [pair for pair in found if pair[0].covers(call.began, timedelta(0))] or found

    def _may_be(self, batch: Candidate, row: Recipient, call: Call) -> bool:
        """Whether a call without a reference may belong to a row."""
        if row.phone != call.phone or not self.is_due(row, call.began):
            return False
        if call.parameters is not None:
            return batch.batch not in self._with_references and row.parameters.items() <= call.parameters.items()
        if not self.is_refuted(row, call.events, call.began):
            return True
        self.refuted |= {event.event_id for event in call.events}
        return False

    def _list_recipients(
        self, window: Candidate, phone: str, call: Call, *, is_roomy: bool
    ) -> Iterator[Recipient | None]:
        """Yields the recipients of a window whom the call may be to; None if a new one has no room."""
        held = [recipient for recipient in self._made[window.batch] if recipient.phone == phone]
        if call.parameters is None:
            known = held
        else:
            known = [recipient for recipient in held if recipient.parameters == call.parameters]
            known = known or [recipient for recipient in held if not recipient.parameters]
        if known:
            yield from (recipient for recipient in known if self.is_due(recipient, call.began))
            return
        yield Recipient(window.batch, (phone, len(held)), phone, call.parameters or {}) if is_roomy else None

    def _record(self, recipient: Recipient, parameters: Parameters | None) -> Recipient:
        """Adds a window's recipient, or completes its parameters, from a call; returns it."""
        made = self._made[recipient.batch]
        held = [index for index, other in enumerate(made) if other.key == recipient.key]
        if not held:
            made.append(recipient)
        elif parameters and not recipient.parameters:
            recipient = recipient._replace(parameters=parameters)
            made[held[0]] = recipient
        return recipient


def _order(call: Call) -> tuple[datetime, str, bool, int, str]:
    """Sorts calls by start; without one by conversation, calls that are not final first."""
    return (
        call.began or LAST,
        call.conversation_id,
        any(is_certainly_final(event) for event in call.events),
        min((event.attempt_number for event in call.events if event.attempt_number is not None), default=2**31),
        json.dumps(call.parameters, default=str) if call.parameters else "~",
    )
