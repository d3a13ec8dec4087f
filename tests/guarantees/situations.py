"""The kinds of situation in a history, so that a run can show that each occurred."""

from collections.abc import Callable

from tests.guarantees.attribution import Place, find_disputed
from tests.guarantees.calls import read_parameters
from tests.guarantees.judging import Judge


def _count(judge: Judge, matches: Callable[[str, Place], bool]) -> bool:
    return any(matches(event_id, place) for event_id, place in judge.rule.places.items())


def _places_at(*kinds: str) -> Callable[[Judge, Place], bool]:
    def places(judge: Judge, place: Place) -> bool:
        recipient = place.recipient
        return recipient is not None and judge.history.batches[recipient.batch].plan.kind in kinds

    return places


def _find(*, reason: str | None = None, kinds: tuple[str, ...] = (), owner: str = "", bare: bool | None = None,
          source: str = "") -> Callable[[Judge], bool]:  # fmt: skip
    """Tests whether an event of a history was placed (or not) like this; ``owner`` is batch, single or inbound."""

    def holds(judge: Judge) -> bool:
        return any(
            (reason is None or place.reason == reason)
            and (not kinds or _places_at(*kinds)(judge, place))
            and (not owner or judge.call_of(judge.events[event_id]).kind == owner)
            and (bare is None or (read_parameters(judge.events[event_id]) is None) == bare)
            and source in {"", judge.events[event_id].source}
            for event_id, place in judge.rule.places.items()
        )

    return holds


def _plans(test: Callable[[object], bool]) -> Callable[[Judge], bool]:
    return lambda judge: any(test(batch.plan) for batch in judge.history.batches)


def _shares_people(judge: Judge) -> bool:
    phones = [phone for batch in judge.history.batches for phone in set(batch.phones)]
    return len(phones) > len(set(phones))


def _repeats_a_phone(judge: Judge) -> bool:
    return any(len(set(batch.phones)) < len(batch.phones) for batch in judge.history.batches)


def _overlaps(judge: Judge) -> bool:
    windows = [batch for batch in judge.history.batches if judge.is_window(batch) and batch.plan.discovered is not None]
    return any(
        one.existed_from <= other.existed_from and (one.closed_at is None or other.existed_from < one.closed_at)
        for one in windows
        for other in windows
        if one is not other
    )


def _registered(low: float, high: float) -> Callable[[Judge], bool]:
    return lambda judge: any(
        not batch.is_upload and batch.plan.discovered is not None and low <= (batch.plan.registered or -1) <= high
        for batch in judge.history.batches
    )


def _continues_a_call(judge: Judge) -> bool:
    ids = {call.conversation_id for call in judge.history.calls if call.owner is not None}
    return any(call.conversation_id in ids for call in judge.history.calls if call.owner is None)


def _is_ruled(judge: Judge, kind: str) -> bool:
    return any(judge.events[event_id].kind == kind for event_id in judge.others)


SITUATIONS: dict[str, Callable[[Judge], bool]] = {
    "a person in several batches": _shares_people,
    "a phone twice in one file": _repeats_a_phone,
    "windows that overlap": _overlaps,
    "a window that is full": lambda judge: any(place.full for place in judge.rule.places.values()),
    "a total that moves": _plans(lambda plan: plan.total == "moves" and plan.kind == "dashboard"),  # type: ignore[attr-defined]
    "a batch seen finished": _plans(lambda plan: plan.ending == "closed"),  # type: ignore[attr-defined]
    "a batch open again": _plans(lambda plan: plan.ending == "reopened"),  # type: ignore[attr-defined]
    "a batch that is complete": lambda judge: bool(judge.ended),
    "a refused upload": _plans(lambda plan: plan.kind == "refused"),  # type: ignore[attr-defined]
    "a batch found late": _plans(lambda plan: plan.kind == "dashboard" and plan.discovered == 1.0),  # type: ignore[attr-defined]
    "a batch never found": _plans(lambda plan: plan.kind == "dashboard" and plan.discovered is None),  # type: ignore[attr-defined]
    "a CSV in the midst": _registered(0.1, 0.9),
    "a CSV at the end": _registered(1.0, 1.0),
    "a conversation that another call continues": _continues_a_call,
    "a walk": lambda judge: bool(judge.history.plan.walks),
    "by reference": _find(reason="reference"),
    "with its call": _find(reason="call"),
    "a bare call in a batch of references": _find(reason="recipient", kinds=("referenced",), bare=True),
    "a webhook in a batch whose references are stripped": _find(reason="recipient", kinds=("stripped",), bare=False),
    "a webhook in a batch without references": _find(reason="recipient", kinds=("plain",), bare=False),
    "a webhook in a registered batch": _find(reason="recipient", kinds=("dashboard",), bare=False),
    "a webhook in a window": _find(reason="window", bare=False),
    "a bare call in a window": _find(reason="window", bare=True),
    "a healed call in an upload": _find(reason="recipient", kinds=("referenced", "stripped", "plain"), source="healed"),
    "a healed call in a window": _find(reason="window", source="healed"),
    "a single call left alone": _find(reason="no_batch", owner="single"),
    "a single call that fits two": _find(reason="ambiguous", owner="single"),
    "a call that came in left alone": _find(reason="no_batch", owner="inbound"),
    "a batch's call that fits two": _find(reason="ambiguous", owner="batch", bare=False),
    "a single call by rule": lambda judge: _is_ruled(judge, "single"),
    "an inbound call by rule": lambda judge: _is_ruled(judge, "inbound"),
    "a call with two phones": lambda judge: bool(find_disputed(judge.events.values())),
    "a guess that references refute": lambda judge: bool(judge.rule.refuted),
    "rules that are added later": lambda judge: judge.history.plan.rules == "later" and bool(judge.others),
    "a healed call that goes with an inbound one": lambda judge: any(
        judge.events[event_id].source == "healed" and judge.call_of(judge.events[event_id]).kind == "inbound"
        for event_id in judge.others
    ),
    "an event that goes with a call by rule": lambda judge: any(
        judge.events[event_id].kind is None for event_id in judge.others
    ),
    "a guess": lambda judge: bool(judge.list_wrong()),
}


def list_situations(judge: Judge) -> list[str]:
    """The situations that occur in a history."""
    return [name for name, holds in SITUATIONS.items() if holds(judge)]
