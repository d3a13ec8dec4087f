"""Judges a played history: where each event is counted, where it should be, and whether that is the truth."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from service.formant.events import Event
from service.store.database import Connection
from tests.guarantees.attribution import CLOCK_SKEW, Attribution, Candidate, Place, Recipient, find_others
from tests.guarantees.calls import Call as ReportedCall
from tests.guarantees.calls import comparable, get_began, read_parameters
from tests.guarantees.histories import Batch, Call, History
from tests.guarantees.oracle import Expected, expect
from tests.guarantees.recount import read_state


class Found(NamedTuple):
    """Where an event is counted: index of the batch, recipient and method; or only the reason why it is not."""

    batch: int | None
    recipient_no: int | None
    word: str


class Held(NamedTuple):
    """A recipient that a batch now has."""

    recipient_no: int
    phone: str
    parameters: dict[str, object]


class Judge:
    """Judges one play of a history from the events that came in and what the database holds."""

    def __init__(self, history: History, events: Iterable[Event]) -> None:
        self.history = history
        self.events = {event.event_id: history.apply_rules(event) for event in events}
        self._call_of = {report.event.event_id: report.call for report in history.reports}
        self._named = {
            (batch.token, n + 1): Recipient(batch.index, (n,), row.phone, comparable(row.parameters))
            for batch in history.batches
            if batch.has_ref_column
            for n, row in enumerate(batch.rows)
        }
        self.found: dict[str, Found] = {}
        self.held: dict[int, list[Held]] = {}
        self._keys: dict[int, int] = {}
        self.ended: dict[int, datetime] = {}
        """The start of the last known call of each batch when it was found complete."""

    async def read(self, connection: Connection) -> None:
        """Reads where each event is counted, which must be in one place."""
        batches = await connection.fetch(
            "SELECT batch_key, substr(name, 2)::bigint AS batch_id FROM batches WHERE agent_id = $1", self.history.agent
        )
        self._keys = {row["batch_id"] - self.history.agent * 10: row["batch_key"] for row in batches}
        index_of = {key: index for index, key in self._keys.items()}
        rows = await connection.fetch(
            """
            SELECT event_id, batch_key, recipient_no, method AS word FROM facts WHERE batch_key = ANY ($1)
            UNION ALL
            SELECT event_id, NULL, NULL, reason FROM unattributed WHERE agent_id = $2
            UNION ALL
            SELECT event_id, NULL, NULL, 'other' FROM other_events WHERE agent_id = $2
            """,
            list(index_of), self.history.agent,
        )  # fmt: skip
        assert {name: n for name, n in Counter(row["event_id"] for row in rows).items() if n != 1} == {}
        self.found = {
            row["event_id"]: Found(index_of.get(row["batch_key"]), row["recipient_no"], row["word"]) for row in rows
        }
        assert self.found.keys() == self.events.keys()
        complete = await connection.fetch(
            "SELECT batch_key, ends_at FROM batch_schedules WHERE batch_key = ANY ($1)",
            list(index_of),
        )
        self.ended = {index_of[row["batch_key"]]: row["ends_at"] for row in complete if row["ends_at"]}
        self.held = {index: [] for index in self._keys}
        for row in await connection.fetch(
            "SELECT batch_key, recipient_no, phone, parameters FROM recipients "
            "WHERE batch_key = ANY ($1) AND withdrawn_at IS NULL ORDER BY 1, 2",
            list(index_of),
        ):
            parameters = comparable(json.loads(row["parameters"]))
            self.held[index_of[row["batch_key"]]].append(Held(row[1], row["phone"], parameters))

    def call_of(self, event: Event) -> Call:
        """The call that an event reports."""
        number = self._call_of.get(event.event_id)
        return self.history.calls[self.history.find_call(event) if number is None else number]

    def _known(self) -> list[Batch]:
        return [batch for batch in self.history.batches if batch.is_upload or batch.plan.discovered is not None]

    @staticmethod
    def is_window(batch: Batch) -> bool:
        """Whether its recipients are known only from its calls, to the end."""
        return not batch.is_upload and batch.plan.registered is None

    @cached_property
    def others(self) -> set[str]:
        """The events of calls that a rule knows to be in no batch."""
        return find_others(self.events.values())

    @cached_property
    def rule(self) -> Attribution:
        """The places by the rule. Which people fill a window's last places depends on the order of arrival, so for a
        full window the database's choice is taken; without a database, the order is that of the calls."""
        candidates = []
        for batch in self._known():
            rows = [
                Recipient(batch.index, (n,), row.phone, comparable(row.parameters)) for n, row in enumerate(batch.rows)
            ]
            candidates.append(
                Candidate(
                    batch=batch.index,
                    existed_from=batch.existed_from,
                    closed_at=batch.closed_at,
                    rows=None if self.is_window(batch) else rows,
                    total=batch.totals[-1],
                    is_sent=batch.plan.kind != "refused",
                    last_call_at=self.ended.get(batch.index),
                )
            )
        is_full = any(self.has_room(each) is None for each in candidates if each.rows is None and self.held)
        chooser = self if is_full else None
        rest = [event for event in self.events.values() if event.event_id not in self.others]
        return Attribution(candidates, rest, self._find_named, chooser, self._is_late)

    def _is_late(self, event: Event) -> bool:
        """Whether an event's reference did not count, since its batch was seen finished before the call began."""
        found, began = self.found.get(event.event_id), get_began(event)
        named = self._find_named(event)
        if found is None or named is None or began is None or found.word == "reference":
            return False
        return any(at + CLOCK_SKEW < began for at, is_finished in self.history.batches[named.batch].seen if is_finished)

    def has_room(self, window: Candidate) -> bool | None:
        """A window with room at the end had room for every call; one that is full may have lacked room for some."""
        return True if window.total is None or len(self.held[window.batch]) < window.total else None

    def is_chosen(self, call: ReportedCall, place: Place) -> bool:
        """Whether the database agrees on the place of a call."""
        found = self.found[call.events[0].event_id]
        if place.recipient is None:
            return found.word == place.reason
        return found.batch == place.recipient.batch

    def _find_named(self, event: Event) -> Recipient | None:
        return self._named.get((event.ref_token or "", event.ref_no or 0))

    def check_places(self) -> None:
        """The database attributes every event as the rule does, and has no other recipients."""
        expected = {event_id: self._show_place(place) for event_id, place in self.rule.places.items()}
        expected |= dict.fromkeys(self.others, ("other",))
        found = {event_id: self._show_found(found) for event_id, found in self.found.items()}
        assert found == expected
        for batch in self._known():
            held = sorted((one.phone, repr(one.parameters)) for one in self.held[batch.index])
            wanted = self.rule.get_made(batch.index) if self.is_window(batch) else batch.rows
            assert held == sorted((one.phone, repr(comparable(one.parameters))) for one in wanted)
            if self.is_window(batch) and (total := batch.totals[-1]) is not None:
                assert len(held) <= total

    def _show_place(self, place: Place) -> tuple[object, ...]:
        if place.recipient is None:
            return (place.reason,)
        batch, key, phone, parameters = self._settle(place.recipient)
        return (
            "reference" if place.reason == "reference" else "placed",
            batch,
            phone,
            repr(parameters),
            key if self.history.batches[batch].is_upload else None,
        )

    def _show_found(self, found: Found) -> tuple[object, ...]:
        if found.batch is None:
            return (found.word,)
        (held,) = (one for one in self.held[found.batch] if one.recipient_no == found.recipient_no)
        key = (held.recipient_no - 1,) if self.history.batches[found.batch].is_upload else None
        return (
            "reference" if found.word == "reference" else "placed",
            found.batch,
            held.phone,
            repr(held.parameters),
            key,
        )

    def _settle(self, recipient: Recipient) -> Recipient:
        """A window's recipient, completed by later calls."""
        same = (one for one in self.rule.get_made(recipient.batch) if one.key == recipient.key)
        return next(same, recipient)

    async def check_outcomes(self, connection: Connection) -> None:
        """Outcomes and counters follow from the attributed events."""
        placed: defaultdict[int, list[Event]] = defaultdict(list)
        for event_id, found in self.found.items():
            if found.batch is not None:
                placed[found.batch].append(self.events[event_id]._replace(ref_no=found.recipient_no))
        names = (
            "conversation_id attempt_number max_attempts status is_final next_retry_at occurred_at started_at ended_at "
        )
        names += "duration_seconds failure_reason source"
        rows = await connection.fetch("SELECT * FROM facts WHERE batch_key = ANY ($1)", list(self._keys.values()))
        for row in rows:
            event = self.events[row["event_id"]]
            assert {name: row[name] for name in names.split()} == {name: getattr(event, name) for name in names.split()}
        for index, key in self._keys.items():
            state = await read_state(connection, key)
            expected = _without_zeros(expect(placed[index]))
            assert state == expected, f"batch {index}: is {state}, should be {expected}"

    def check_truth(self) -> None:
        """No event is counted where it does not belong, unless nothing reported could have shown that, and no call of a
        batch is taken for one outside batches."""
        assert [event_id for event_id in self.others if self.call_of(self.events[event_id]).owner is not None] == []
        assert [event_id for event_id, is_indistinguishable in self.list_wrong() if not is_indistinguishable] == []

    def explain(self, story: list[str]) -> str:
        """The whole history as text, for debugging a failure."""
        lines = ["", *(f"batch {batch.index}: {batch.plan} {batch.rows}" for batch in self.history.batches)]
        lines += [f"batch {index} has {held}" for index, held in self.held.items()]
        for event in sorted(self.events.values(), key=lambda event: str(get_began(event))):
            call = self.call_of(event)
            lines.append(
                f"{event.event_id[:14]} of {call.kind} {call.owner}: {event.conversation_id} began {get_began(event)} "
                f"{event.phone} {event.status} final={event.is_final} {event.ref_token}-{event.ref_no} "
                f"{event.parameters}"
            )
            lines.append(
                f"    is {self.found.get(event.event_id)}, should be {self.rule.places.get(event.event_id, 'other')}"
            )
        return "\n".join([*lines, *story])

    def list_wrong(self) -> list[tuple[str, bool]]:
        """Events counted where they do not belong, each with whether nothing reported could have shown it."""
        wrong = []
        for event_id, place in self.rule.places.items():
            call = self.call_of(self.events[event_id])
            if place.recipient is not None and not self._is_true(place.recipient, call):
                wrong.append((event_id, self._is_indistinguishable(place.recipient, self.events[event_id])))
        return wrong

    def _is_true(self, recipient: Recipient, call: Call) -> bool:
        if call.owner is None or call.owner.batch != recipient.batch:
            return False
        if self.is_window(self.history.batches[recipient.batch]):
            return call.phone == recipient.phone
        return recipient.key == (call.owner.row,)

    def _is_indistinguishable(self, recipient: Recipient, event: Event) -> bool:
        """Whether all reports on an event's call and on the recipient would be the same if the call were theirs.

        No event of the call has a reference; the call was made to their phone while their batch existed and while they
        were due, as far as is counted for them; their references do not rule it out; and its parameters are unknown or
        could be theirs. A window's parameters are unknown; a row's must be contained in the call's, in a batch whose
        references never came back.
        An event without a time may belong to any call of its conversation: if there are several, it is judged alone.
        So it is where a rule knows it to be of a call outside batches, since it takes no other event with it.
        """
        call = self.call_of(event)
        several = sum(other.conversation_id == call.conversation_id for other in self.history.calls) > 1
        if several and get_began(event) is None:
            reported = [event]
        else:
            reported = [
                other
                for other in self.events.values()
                if self.call_of(other) == call
                and not (get_began(other) is None and (several or other.event_id in self.others))
            ]
        parameters = [found for other in reported if (found := read_parameters(other)) is not None]
        began = min((moment for other in reported if (moment := get_began(other))), default=None)
        if not parameters and began is None:
            return True
        if any(self._find_named(other) for other in reported) or event.phone != recipient.phone:
            return False
        if self.rule.is_refuted(recipient, reported, began):
            return False
        batch = self.history.batches[recipient.batch]
        candidate = Candidate(batch.index, batch.existed_from, batch.closed_at, [], None)
        own = self.rule.calls[event.event_id]
        if began is not None and not (candidate.covers(began) and self.rule.is_due(recipient, began, own=own)):
            return False
        if not parameters or self.is_window(batch):
            return True
        has_references = any(
            (named := self._find_named(other)) and named.batch == batch.index and other.source == "webhook"
            for other in self.events.values()
        )
        return not has_references and recipient.parameters.items() <= parameters[0].items()


def _without_zeros(state: Expected) -> Expected:
    return state._replace(
        outcome_counts=+state.outcome_counts, talk_seconds=+state.talk_seconds, result_counts=+state.result_counts,
        attempt_counts=+state.attempt_counts,
    )  # fmt: skip
