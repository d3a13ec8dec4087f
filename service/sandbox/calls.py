"""How a call goes: its outcome, its free-form results, and the words spoken.

Every draw has its own path, such as (batch, row, attempt), and depends on the seed and that path alone. Concurrency,
timing and faults elsewhere never change what happens in a call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple
from uuid import UUID


def seeded_random(seed: int, *path: object) -> Random:
    """A generator that depends on the seed and the path alone."""
    return Random(_key(seed, path))  # noqa: S311 - an emulation needs repeatable, not secret, randomness


def derive_uuid(seed: int, *path: object) -> str:
    """A version 4 UUID as text that depends on the seed and the path alone."""
    digest = blake2b(_key(seed, path).encode(), digest_size=16).digest()
    return str(UUID(bytes=digest, version=4))


def _key(seed: int, path: tuple[object, ...]) -> str:
    return "/".join(map(str, (seed, *path)))


WEAK_SHARE = 0.3


def draw_caller(seed: int, ordinal: int, row: int, number: int, numbers: int) -> int:
    """Which of the agent's ``numbers`` numbers, from 0, makes attempt ``number`` to a row of the run's nth batch."""
    return seeded_random(seed, "caller", ordinal, row, number).randrange(numbers)


def name_caller(agent_id: int, place: int) -> str:
    """The agent's number at that place."""
    return f"+9180471{(agent_id + place * 7919) % 100_000:05}"


class _Failure(NamedTuple):
    """One way in which a call is not completed."""

    weight: float
    retry_factor: float
    seconds_before: tuple[float, float]
    """From dialling until the call connects or the provider gives up: shortest and longest."""
    reasons: tuple[str, ...]


_FAILURES = {
    "no_answer": _Failure(54, 1, (25, 40), ("No answer within the ring time",)),
    "busy": _Failure(19, 1 / 3, (2, 6), ("User busy", "Call rejected")),
    "unreachable": _Failure(
        14, 2, (5, 15), ("Subscriber not reachable", "Number switched off", "Out of coverage area")
    ),
    "failed": _Failure(
        10, 1 / 2, (0.5, 3), ("Call set-up failed", "Invalid number format at carrier", "Temporary failure")
    ),
    "telephony_failed": _Failure(2, 1 / 2, (3, 15), ("Carrier error 503", "Carrier dropped the call after initiation")),
    "socket_failure": _Failure(1, 1 / 6, (4, 24), ("Voice stream did not start",)),
}
_RING_SECONDS = (4, 24)
"""From dialling to the answer of a completed call: shortest and longest."""
_MEDIAN_TALK_SECONDS, _TALK_SIGMA, _MAX_TALK_SECONDS = 90.0, 0.55, 900


@dataclass(frozen=True, slots=True)
class Call:
    """What happens in a call. ``duration_seconds`` is None for a call that never connects."""

    status: str
    seconds_before: float
    duration_seconds: int | None
    failure_reason: str | None
    retry_factor: float
    """The wait before the next attempt, as a multiple of the wait after an unanswered call."""

    @property
    def is_connected(self) -> bool:
        return self.duration_seconds is not None


def draw_call(
    seed: int, ordinal: int, row: int, number: int, *, completed_share: float, script: Sequence[str] = ()
) -> Call:
    """The call of attempt ``number`` (from 1) to a row (from 0) of the run's nth batch."""
    chance = seeded_random(seed, "call", ordinal, row, number)
    status = "completed"
    if chance.random() >= completed_share:
        weights = [failure.weight for failure in _FAILURES.values()]
        status = chance.choices(list(_FAILURES), weights=weights)[0]
    if script:
        status = script[min(number, len(script)) - 1]
    if status == "completed":
        talk = round(chance.lognormvariate(0, _TALK_SIGMA) * _MEDIAN_TALK_SECONDS)
        duration = min(max(5, talk), _MAX_TALK_SECONDS)
        return Call(status, round(chance.uniform(*_RING_SECONDS), 3), duration, failure_reason=None, retry_factor=0.0)
    failure = _FAILURES[status]
    return Call(
        status=status,
        # Connected, but nobody talked: the provider may still count a few seconds.
        duration_seconds=chance.randrange(4) if status in ("socket_failure", "telephony_failed") else None,
        seconds_before=round(chance.uniform(*failure.seconds_before), 3),
        failure_reason=chance.choice(failure.reasons),
        retry_factor=failure.retry_factor * chance.uniform(0.9, 1.1),
    )


class _Intent(NamedTuple):
    """What a person wants of a completed call, and the words that go with it."""

    weight: int
    sentiments: tuple[int, int, int]
    """Weights of positive, neutral and negative."""
    answer: str
    summary: str


_INTENTS = {
    "promise_to_pay": _Intent(
        38, (50, 45, 5), "Yes, I will pay it by {date}.", "Customer confirmed the dues and named a date."
    ),
    "callback_requested": _Intent(
        19,
        (20, 65, 15),
        "I am driving, please call me later, after {time}.",
        "Customer was busy and asked for another call.",
    ),
    "already_paid": _Intent(
        14,
        (35, 50, 15),
        "I have paid this already, please check.",
        "Customer says the payment was made; proof to be checked.",
    ),
    "refused": _Intent(
        11,
        (2, 28, 70),
        "I am not going to pay this now.",
        "Customer declined to pay; gave loss of work as the reason.",
    ),
    "dispute": _Intent(
        7,
        (1, 19, 80),
        "This amount is not right, I never agreed to it.",
        "Customer says the dues are not the ₹ amount claimed; wants a statement.",
    ),
    "wrong_number": _Intent(
        6, (10, 70, 20), "There is nobody by that name here.", "The number belongs to somebody else."
    ),
    "do_not_call": _Intent(3, (0, 20, 80), "Do not call me again.", "Customer asked not to be called again."),
    "unclear": _Intent(2, (10, 70, 20), "Hello? I can't hear you well.", "Line was poor, nothing could be agreed."),
}
_SUMMARY_SHARE, _VERIFIED_SHARE = 0.25, 0.9
_INDIA_HOURS = timedelta(hours=5, minutes=30)


def draw_results(seed: int, ordinal: int, row: int, number: int, answered_at: float) -> dict[str, Any]:
    """The results of a completed call, answered at the virtual time ``answered_at``."""
    chance = seeded_random(seed, "results", ordinal, row, number)
    intent = chance.choices(list(_INTENTS), weights=[intent.weight for intent in _INTENTS.values()])[0]
    drawn = _INTENTS[intent]
    results: dict[str, Any] = {
        "intent": intent,
        "sentiment": chance.choices(("positive", "neutral", "negative"), weights=drawn.sentiments)[0],
        "identity_verified": intent != "wrong_number" and chance.random() < _VERIFIED_SHARE,
    }
    local = datetime.fromtimestamp(answered_at, UTC) + _INDIA_HOURS
    if intent == "promise_to_pay":
        results["promise_date"] = (local + timedelta(days=chance.randint(1, 14))).strftime("%Y-%m-%d")
    elif intent == "callback_requested":
        day = local + timedelta(days=chance.randint(0, 2))
        hour, minute = chance.randint(18, 20), chance.choice((0, 15, 30, 45))
        results["callback_time"] = f"{day:%Y-%m-%d}T{hour:02}:{minute:02}:00+05:30"
    if chance.random() < _SUMMARY_SHARE:
        results["summary"] = drawn.summary
    return results


def write_dialogue(parameters: dict[str, str], results: dict[str, Any]) -> list[tuple[str, str]]:
    """The dialogue of a completed call with these results, as (``BOT`` or ``HUMAN``, words) pairs."""
    name = parameters.get("customer_name") or "the account holder"
    amount = parameters.get("due_amount")
    purpose = f"an amount of {amount} rupees that is due" if amount else "your account"
    answer = _INTENTS[results["intent"]].answer.format(
        date=results.get("promise_date", "Friday"), time=str(results.get("callback_time", ""))[11:16] or "six"
    )
    return [
        ("BOT", f"Hello, am I speaking with {name}?"),
        ("HUMAN", "Yes, who is it?" if results["identity_verified"] else "Why do you ask?"),
        ("BOT", f"I am calling about {purpose}. Can you help me with that?"),
        ("HUMAN", answer),
        ("BOT", "Thank you, I have noted that. Have a good day."),
    ]


def join_dialogue(dialogue: list[tuple[str, str]]) -> str:
    """The transcript as webhooks carry it: ``BOT: …\\nHUMAN: …``."""
    return "\n".join(f"{role}: {message}" for role, message in dialogue)
