"""How a call goes: the outcome model. What happens depends on (seed, batch, row, attempt) and on nothing else."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from random import Random
from typing import Any


def dice(seed: int, *path: object) -> random.Random:
    """A generator that depends on the seed and the path alone."""
    return random.Random(_key(seed, path))  # noqa: S311 - an emulation wants repeatable, not secret, randomness


def derive_uuid(seed: int, *path: object) -> str:
    """A version 4 UUID as text that depends on the seed and the path alone."""
    digest = blake2b(_key(seed, path).encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _key(seed: int, path: tuple[object, ...]) -> str:
    return "/".join(map(str, (seed, *path)))


FAILURE_WEIGHTS = {
    "no_answer": 54.0,
    "busy": 19.0,
    "unreachable": 14.0,
    "failed": 10.0,
    "telephony_failed": 2.0,
    "socket_failure": 1.0,
}
_RETRY_FACTORS = {
    "busy": 1 / 3,
    "socket_failure": 1 / 6,
    "telephony_failed": 1 / 2,
    "failed": 1 / 2,
    "no_answer": 1.0,
    "unreachable": 2.0,
}
_SECONDS_BEFORE = {
    "completed": (4.0, 24.0),
    "no_answer": (25.0, 40.0),
    "busy": (2.0, 6.0),
    "unreachable": (5.0, 15.0),
    "failed": (0.5, 3.0),
    "telephony_failed": (3.0, 15.0),
    "socket_failure": (4.0, 24.0),
}
"""Between dialling and the answer; where nobody answers, until the provider gives up."""

_REASONS = {
    "no_answer": ("No answer within the ring time",),
    "busy": ("User busy", "Call rejected"),
    "unreachable": ("Subscriber not reachable", "Number switched off", "Out of coverage area"),
    "failed": ("Call set-up failed", "Invalid number format at carrier", "Temporary failure"),
    "telephony_failed": ("Carrier error 503", "Carrier dropped the call after initiation"),
    "socket_failure": ("Voice stream did not start",),
}
_MEDIAN_TALK_SECONDS, _TALK_SIGMA, _LONGEST_TALK_SECONDS = 90.0, 0.55, 900


@dataclass(frozen=True, slots=True)
class Call:
    """What will happen in a call. Never connected: no talk and no end, only the moment of dialling."""

    status: str
    seconds_before: float
    duration_seconds: int | None
    failure_reason: str | None
    retry_factor: float
    """The wait before the next attempt, as a multiple of the wait after a call that nobody answered."""

    @property
    def is_connected(self) -> bool:
        return self.duration_seconds is not None


def draw_call(
    seed: int, ordinal: int, row: int, number: int, *, completed_share: float, script: Sequence[str] = ()
) -> Call:
    """The call of attempt ``number`` (from 1) to a row (from 0) of the run's nth batch."""
    chance = dice(seed, "call", ordinal, row, number)
    status = _draw_status(chance, completed_share)
    if script:
        status = script[min(number, len(script)) - 1]
    if status == "completed":
        talk = chance.lognormvariate(0, _TALK_SIGMA) * _MEDIAN_TALK_SECONDS
        duration: int | None = min(max(5, round(talk)), _LONGEST_TALK_SECONDS)
    else:
        # Connected, but nobody talked: the provider may well count a few seconds.
        duration = chance.randrange(4) if status in ("socket_failure", "telephony_failed") else None
    return Call(
        status=status,
        seconds_before=round(chance.uniform(*_SECONDS_BEFORE[status]), 3),
        duration_seconds=duration,
        failure_reason=chance.choice(_REASONS[status]) if status in _REASONS else None,
        retry_factor=_RETRY_FACTORS.get(status, 0.0) * chance.uniform(0.9, 1.1),
    )


def _draw_status(chance: Random, completed_share: float) -> str:
    if chance.random() < completed_share:
        return "completed"
    return chance.choices(list(FAILURE_WEIGHTS), weights=list(FAILURE_WEIGHTS.values()))[0]


_INTENTS = {
    "promise_to_pay": 38,
    "callback_requested": 19,
    "already_paid": 14,
    "refused": 11,
    "dispute": 7,
    "wrong_number": 6,
    "do_not_call": 3,
    "unclear": 2,
}
_SENTIMENTS = {
    "promise_to_pay": (50, 45, 5),
    "already_paid": (35, 50, 15),
    "callback_requested": (20, 65, 15),
    "refused": (2, 28, 70),
    "dispute": (1, 19, 80),
    "do_not_call": (0, 20, 80),
}
_ANSWERS = {
    "promise_to_pay": "Yes, I will pay it by {date}.",
    "callback_requested": "I am driving, please call me later, after {time}.",
    "already_paid": "I have paid this already, please check.",
    "refused": "I am not going to pay this now.",
    "dispute": "This amount is not right, I never agreed to it.",
    "wrong_number": "There is nobody of that name here.",
    "do_not_call": "Do not call me again.",
    "unclear": "Hello? I can't hear you well.",
}
_SUMMARIES = {
    "promise_to_pay": "Customer confirmed the dues and named a date.",
    "callback_requested": "Customer was busy and asked for another call.",
    "already_paid": "Customer says the payment was made; proof to be checked.",
    "refused": "Customer declined to pay; gave loss of work as the reason.",
    "dispute": "Customer says the dues are not the ₹ amount claimed; wants a statement.",
    "wrong_number": "The number belongs to somebody else.",
    "do_not_call": "Customer asked not to be called again.",
    "unclear": "Line was poor, nothing could be agreed.",
}
_SUMMARY_SHARE, _VERIFIED_SHARE = 0.25, 0.9
_INDIA_HOURS = timedelta(hours=5, minutes=30)


def draw_results(seed: int, ordinal: int, row: int, number: int, answered_at: float) -> dict[str, Any]:
    """The results of a completed call that was answered at the virtual time ``answered_at``."""
    chance = dice(seed, "results", ordinal, row, number)
    intent = chance.choices(list(_INTENTS), weights=list(_INTENTS.values()))[0]
    weights = _SENTIMENTS.get(intent, (10, 70, 20))
    results: dict[str, Any] = {
        "intent": intent,
        "sentiment": chance.choices(("positive", "neutral", "negative"), weights=weights)[0],
        "identity_verified": intent != "wrong_number" and chance.random() < _VERIFIED_SHARE,
    }
    local = datetime.fromtimestamp(answered_at, UTC) + _INDIA_HOURS
    if intent == "promise_to_pay":
        results["promise_date"] = (local + timedelta(days=chance.randint(1, 14))).strftime("%Y-%m-%d")
    elif intent == "callback_requested":
        results["callback_time"] = _draw_callback(chance, local)
    if chance.random() < _SUMMARY_SHARE:
        results["summary"] = _SUMMARIES[intent]
    return results


def write_dialogue(parameters: dict[str, str], results: dict[str, Any]) -> list[tuple[str, str]]:
    """The words of a completed call that had these results: (``BOT`` or ``HUMAN``, what was said)."""
    name = parameters.get("customer_name") or "the account holder"
    amount = parameters.get("due_amount")
    purpose = f"an amount of {amount} rupees that is due" if amount else "your account"
    answer = _ANSWERS[results["intent"]].format(
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


def _draw_callback(chance: Random, local: datetime) -> str:
    day = local + timedelta(days=chance.randint(0, 2))
    return f"{day:%Y-%m-%d}T{chance.randint(18, 20):02}:{chance.choice((0, 15, 30, 45)):02}:00+05:30"
