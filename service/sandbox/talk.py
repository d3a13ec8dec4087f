"""What a completed call brought: the agent's free-form results, and the words spoken."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from service.sandbox.dice import dice

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
