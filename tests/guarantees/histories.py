"""Random histories of one agent: its batches, their calls, all its other calls, and the events reported for each.

Hypothesis draws a plan without ids; ``History`` gives it its own agent, phones and ids, so that thousands share one
database. Each call knows its true owner, which the service never learns.
"""

import json
from collections import Counter
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from hypothesis import strategies as st

from service.formant.conversations import decode_conversation, to_event
from service.formant.events import STATUSES, Event
from tests.factories import BEGAN, RECEIVED, decode, make_payload

SPELLINGS = True
"""Whether phones and parameters are compared by their meaning; events then spell them in many ways."""
PEOPLE = 3
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
UNANSWERED = ("busy", "no_answer", "failed", "unreachable")
NOTHING: list[Any] = [{}, {"intent": None}, [], {"intent": ""}, ""]
"""Results of calls whose results are not there yet."""


class CallPlan(NamedTuple):
    """The result of a call, and how it is reported."""

    status: str
    is_final: bool
    webhook: str
    is_bare: bool
    """Its webhooks have no call parameters, which the contract allows for unanswered calls."""
    healed: str


class RowPlan(NamedTuple):
    """A row of a CSV: its person, and the attempts to reach them."""

    person: int
    attempts: list[CallPlan]
    is_misdialled: bool


class BatchPlan(NamedTuple):
    """A batch, and what the service learns of it. ``registered``, ``discovered``: points in the history, 0 to 1."""

    kind: str
    begins: int
    columns: str
    rows: list[RowPlan]
    total: str
    ending: str
    discovered: float | None
    registered: float | None
    compared: list[float]


class OtherPlan(NamedTuple):
    """A single call or an inbound call."""

    kind: str
    person: int
    hour: int
    parameters: str
    continues: bool
    call_plan: CallPlan


class Plan(NamedTuple):
    """A history."""

    batches: list[BatchPlan]
    others: list[OtherPlan]
    keeps_ids: bool
    walks: list[float]
    rules: str
    """Rules know inbound calls by the agent's number, and single calls by a parameter: never, always, or from some time
    on."""


def often(*values: Any) -> st.SearchStrategy[Any]:
    """Draws each value as often as it is listed."""
    return st.sampled_from(values)


call_plans = st.builds(
    CallPlan,
    status=often(*UNANSWERED, "completed", "completed", *STATUSES[4:6]),
    is_final=often(True, True, False),
    webhook=often(*["once"] * 8, "twice", "bare twin", "no number", "no number", "no times", "neither", "timeless",
                  "lost", "lost"),
    is_bare=often(False, False, False, False, True),
    healed=often(*[""] * 9, "waits", "final", "both", "no start", "contradicts", "listed", "listed first"),
)  # fmt: skip
rows = st.builds(
    RowPlan,
    person=st.integers(0, PEOPLE - 1),
    attempts=st.lists(call_plans, min_size=1, max_size=3),
    is_misdialled=often(False, False, False, False, False, False, False, True),
)
batches = st.builds(
    BatchPlan,
    kind=often("referenced", "referenced", "stripped", "plain", "dashboard", "dashboard", "dashboard", "refused"),
    begins=often(0, 0, 1, 3, 24),
    columns=often("own", "own", "own", "shared", "none"),
    rows=st.lists(rows, min_size=1, max_size=3),
    total=often("exact", "exact", "none", "moves", "ample", "tight"),
    ending=often("open", "open", "closed", "closed", "reopened", "closed again"),
    discovered=often(None, 0.0, 0.0, 0.3, 0.6, 1.0, 1.0),
    registered=often(None, None, None, None, 0.0, 0.2, 0.5, 0.8, 1.0, 1.0),
    compared=often([], [], [1.0], [0.5, 1.0]),
)
others = st.builds(
    OtherPlan,
    kind=often("single", "single", "inbound"),
    person=st.integers(0, PEOPLE),
    hour=often(0, 1, 2, 4, 5, 8, 26, 700, 700),
    parameters=often("own", "own", "own", "own", "none", "a row's"),
    continues=often(False, False, False, True),
    call_plan=call_plans,
)
plans = st.builds(
    Plan,
    batches=st.lists(batches, min_size=1, max_size=4),
    others=st.lists(others, max_size=5),
    keeps_ids=st.booleans(),
    walks=often([], [], [], [], [1.0], [0.5, 1.0]),
    rules=often("never", "never", "always", "later", "later"),
)


class Row(NamedTuple):
    """A row as the file has it."""

    phone: str
    parameters: dict[str, str]


class Owner(NamedTuple):
    """A recipient, as the indexes of its batch and row."""

    batch: int
    row: int


class Call(NamedTuple):
    """One call as it really was."""

    owner: Owner | None
    kind: str
    conversation_id: str
    began: datetime
    phone: str
    attempt: int
    call_plan: CallPlan
    parameters: dict[str, str]
    reference: tuple[str, int] | None

    @property
    def shows_parameters(self) -> bool:
        """Whether any of its webhooks can have parameters."""
        is_bare = self.call_plan.is_bare and self.call_plan.status != "completed"
        return not is_bare and bool(self.parameters or self.reference)


class Batch:
    """A batch as it really was."""

    def __init__(self, agent: int, index: int, plan: BatchPlan) -> None:
        self.index = index
        self.plan = plan
        self.batch_id = agent * 10 + index
        self.token = f"token{self.batch_id}"
        self.created_at = BEGAN + plan.begins * HOUR - MINUTE
        self.phones = [f"+9170{agent:06}{row.person:02}" for row in plan.rows]

    @property
    def is_upload(self) -> bool:
        """Whether it was uploaded here."""
        return self.plan.kind != "dashboard"

    @property
    def existed_from(self) -> datetime:
        """The earliest time of a call: when its upload was prepared, or when it was created elsewhere."""
        return self.created_at - MINUTE if self.is_upload else self.created_at

    @property
    def has_ref_column(self) -> bool:
        """Whether its file has the reference column."""
        return self.plan.kind in {"referenced", "stripped", "refused"}

    @property
    def rows(self) -> list[Row]:
        """The rows of its file."""
        return [Row(phone, self._write_parameters(n)) for n, phone in enumerate(self.phones)]

    def _write_parameters(self, row: int) -> dict[str, str]:
        if self.plan.columns == "none":
            return {}
        if self.plan.columns == "shared":
            return {"name": f"P{self.plan.rows[row].person}"}
        if self.plan.begins % 2:  # as random as a draw: a sparse file, with an empty cell and numbers
            return {"loan_id": f"{self.index}{row}.0", "note": ""}
        return {"loan_id": f"LN-{self.index}-{row}"}

    @property
    def ends_at(self) -> datetime:
        """When its last call ends."""
        return self.created_at + 3 * HOUR

    @property
    def seen(self) -> list[tuple[datetime, bool]]:
        """When the provider's figures were read, and whether they showed the batch as finished."""
        sightings = {"open": "", "closed": "f", "reopened": "fo", "closed again": "fof"}[self.plan.ending]
        if self.plan.kind == "refused":
            return []
        times = [self.created_at + (1 + n / 2) * HOUR for n in range(len(sightings) - 1)] + [self.ends_at]
        return [(at, sighting == "f") for at, sighting in zip(times, sightings, strict=False)]

    @property
    def closed_at(self) -> datetime | None:
        """When it was last seen finished, if it is finished at the end."""
        return self.ends_at if self.plan.ending in {"closed", "closed again"} else None

    @property
    def final_statuses(self) -> Counter[str] | None:
        """The number of its recipients by final status; None if any waits for another call."""
        last = [row.attempts[-1] for row in self.plan.rows]
        if not all(attempt.is_final or attempt.status == "completed" for attempt in last):
            return None
        return Counter(attempt.status for attempt in last)

    @property
    def totals(self) -> list[int | None]:
        """The totals that the provider reports, in order."""
        size = len(self.plan.rows)
        steps: dict[str, list[int | None]] = {
            "exact": [size], "none": [None], "ample": [40], "moves": [1, size, 40], "tight": [max(1, size - 1)],
        }  # fmt: skip
        return steps[self.plan.total]


class Report(NamedTuple):
    """An event, and the index of its call."""

    event: Event
    call: int


class History:
    """A plan under one agent."""

    def __init__(self, plan: Plan, agent: int) -> None:
        self.plan = plan
        self.agent = agent
        self.batches = [Batch(agent, index, each) for index, each in enumerate(plan.batches)]

    @cached_property
    def calls(self) -> list[Call]:
        """All calls of the agent, in order of their start."""
        made = [call for batch in self.batches if batch.plan.kind != "refused" for call in self._dial(batch)]
        for index, other in enumerate(self.plan.others):
            made.append(self._make_other(index, other, made))
        return sorted(made, key=lambda call: call.began)

    def _dial(self, batch: Batch) -> list[Call]:
        calls = []
        for row, plan in enumerate(batch.plan.rows):
            for n, drawn in enumerate(plan.attempts):
                is_last = n == len(plan.attempts) - 1
                call_plan = drawn._replace(is_final=is_last and (drawn.is_final or drawn.status == "completed"))
                if not is_last and drawn.status == "completed":
                    call_plan = call_plan._replace(status="busy")
                suffix = "" if self.plan.keeps_ids else f"_{n + 1}"
                calls.append(
                    Call(
                        owner=Owner(batch.index, row),
                        kind="batch",
                        conversation_id=f"c{batch.batch_id}-{row}{suffix}",
                        began=batch.created_at + MINUTE + n * HOUR + (batch.index * 9 + row * 3) * MINUTE,
                        phone=self._phone(9) if plan.is_misdialled else batch.phones[row],
                        attempt=n + 1,
                        call_plan=call_plan,
                        parameters=batch.rows[row].parameters,
                        reference=(batch.token, row + 1) if batch.plan.kind == "referenced" else None,
                    )
                )
        return calls

    def _make_other(self, index: int, plan: OtherPlan, earlier: list[Call]) -> Call:
        phone = self._phone(plan.person)
        parameters = {"topic": f"T{index}"}
        rows = [row for batch in self.batches for row in batch.rows if row.phone == phone]
        if plan.kind == "inbound" or plan.parameters == "none":
            parameters = {}
        elif plan.parameters == "a row's" and rows:
            parameters = rows[index % len(rows)].parameters
        began = BEGAN + plan.hour * HOUR + 40 * MINUTE + index * 3 * MINUTE
        before = [call for call in earlier if call.phone == phone and call.began < began]
        conversation = before[-1].conversation_id if plan.continues and before else f"o{self.agent}-{index}"
        return Call(None, plan.kind, conversation, began, phone, 1, plan.call_plan, parameters, None)

    def _phone(self, person: int) -> str:
        return f"+9170{self.agent:06}{person:02}"

    @cached_property
    def reports(self) -> list[Report]:
        """All events that arrive without a walk, in the order of the calls."""
        return [Report(event, n) for n, call in enumerate(self.calls) for event in self._report(n, call)]

    def _report(self, number: int, call: Call) -> list[Event]:
        way, status = call.call_plan.webhook, call.call_plan.status
        token, row = call.reference or ("", None)
        event_id = f"e{self.agent}-{number}"
        payload = make_payload(
            recipient=row, ref_token=token, status=status, final=call.call_plan.is_final,
            attempt=None if way in {"no number", "neither"} else call.attempt, event_id=event_id,
            conversation_id=call.conversation_id, phone=self._spell(call.phone, number), parameters=call.parameters,
            agent_id=self.agent, began=call.began,
            results={"intent": status[:2]} if number % 3 else NOTHING[number // 3 % len(NOTHING)],
            duration_seconds=10 * call.attempt,
        )  # fmt: skip
        data = payload["data"]["call"]
        if call.kind == "inbound" and number % 2:  # the agent's own number was called
            data |= {"from_phone": call.phone, "to_phone": self._phone(99)}
        nothing: list[object] = [None, {}, [], "none"]
        if not call.shows_parameters:
            data["call_parameters"] = nothing[number % 4]
        elif SPELLINGS and "note" in call.parameters:
            data["call_parameters"] = _respell(data["call_parameters"], number)
        if way in {"no times", "neither", "timeless"}:
            data |= {"started_at": None, "ended_at": None}
        if way == "timeless":
            payload["timestamp"] = None
        twin = payload | {"event_id": f"{event_id}b", "event_type": "call.busy"}
        if way == "bare twin":
            twin["data"] = twin["data"] | {"call": data | {"call_parameters": None}}
        bodies = {"lost": [], "twice": [payload, twin], "bare twin": [payload, twin]}.get(way, [payload])
        # After the call: an event without a time belongs to a batch only if that existed when the event arrived.
        events = decode(*bodies) + self._heal(call, number)
        return [event._replace(received_at=call.began + MINUTE) for event in events]

    def apply_rules(self, event: Event) -> Event:
        """The event as it is read with the rules."""
        if self.plan.rules == "never" or event.source != "webhook":
            return event
        call = self.calls[self._numbers[event.event_id]]
        is_known = call.kind == "inbound" or (call.kind == "single" and '"topic"' in event.parameters)
        return event._replace(kind=call.kind, phone=call.phone) if is_known else event

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {report.event.event_id: report.call for report in self.reports}

    def _heal(self, call: Call, number: int) -> list[Event]:
        """Events as the healer makes them, in histories without walks."""
        way = "" if self.plan.walks else call.call_plan.healed
        record = self.converse(call, number)
        if way == "no start":
            record["start_timestamp"] = None
        if way == "contradicts":
            record["status"] = "completed"
        found = decode_conversation(json.dumps({"data": record | {"results": {"intent": "heard"}}}).encode())
        listed = decode_conversation(json.dumps({"data": record}).encode())
        contradicted = (call.attempt, call.began + MINUTE) if way == "contradicts" else None
        ways = {
            "waits": [(found, True)], "final": [(found, False)], "no start": [(found, False)],
            "both": [(found, True), (found, False)], "contradicts": [(found, False)], "listed": [(listed, False)],
            "listed first": [(listed, True), (found, True), (listed, False)],
        }  # fmt: skip
        made = [
            to_event(conversation, received_at=RECEIVED, may_retry=may, contradicted=contradicted)
            for conversation, may in ways.get(way, [])
        ]
        return [event for event in made if event is not None]

    def converse(self, call: Call, number: int) -> dict[str, Any]:
        """The provider's record of a call; its time may differ from the webhook's by more than a second."""
        start = round(call.began.timestamp() * 1000) + 1500 * (number % 2)
        return {
            "agent_id": self.agent, "contact_number": self._spell(call.phone, number + 1),
            "conversation_id": call.conversation_id, "duration_seconds": 10 * call.attempt,
            "start_timestamp": start, "end_timestamp": start + 10_000 * call.attempt, "status": call.call_plan.status,
        }  # fmt: skip

    def find_call(self, event: Event) -> int:
        """The call of a healed event, found by its conversation and time."""
        moment = event.started_at or event.ended_at
        assert moment is not None
        near = [
            n for n, call in enumerate(self.calls)
            if call.conversation_id == event.conversation_id and abs(call.began - moment) < MINUTE
        ]  # fmt: skip
        assert len(near) == 1
        return near[0]

    def _spell(self, phone: str, number: int) -> str:
        if not SPELLINGS:
            return phone
        ways = (phone, phone[1:], f"00{phone[1:]}", f"tel:{phone}", f"{phone[:3]} {phone[3:8]} {phone[8:]}")
        return ways[number % len(ways)]


def _respell(parameters: dict[str, Any], number: int) -> dict[str, Any]:
    """Parameters of a sparse file, as the provider may return them."""
    loan_id = parameters["loan_id"]
    ways: list[dict[str, Any]] = [
        {}, {"note": None}, {"loan_id": float(loan_id)}, {"loan_id": int(float(loan_id)), "note": " "},
        {"loan_id": f" {loan_id}\t", "note": None},
    ]  # fmt: skip
    kept = {name: value for name, value in parameters.items() if name != "note" or number % 2}
    return kept | ways[number % len(ways)]
