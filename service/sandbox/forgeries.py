"""Forged copies of events: another body under a signature that does not fit it. A receiver must take none of them."""

from dataclasses import replace
from random import Random
from typing import Any

import msgspec

from service.formant.signature import sign
from service.sandbox.deliveries import Delivery

_UNKNOWN_STATUS_SHARE, _OWN_ID_SHARE = 0.1, 0.5


def forge(genuine: Delivery, chance: Random) -> Delivery:
    """A delivery that claims another outcome for the same call, sometimes under the genuine event's id.

    Its signature is one of: the genuine event's, another secret's, random, malformed, missing. None verifies, as the
    body always differs from the genuine one.
    """
    envelope: dict[str, Any] = msgspec.json.decode(genuine.body)
    call = envelope["data"]["call"]
    call["status"] = "refused_by_forger" if chance.random() < _UNKNOWN_STATUS_SHARE else _another(call["status"])
    envelope["event_type"] = f"call.{call['status']}"
    call["duration_seconds"] = chance.randrange(1000, 5000)
    envelope["data"]["results"] = {"intent": "forged", "sentiment": "forged"}
    if chance.random() < _OWN_ID_SHARE:
        envelope["event_id"] = f"evt_{chance.randbytes(16).hex()}"
    body = msgspec.json.encode(envelope)
    return replace(
        genuine,
        event_id=envelope["event_id"],
        event_type=envelope["event_type"],
        body=body,
        signature=_draw_signature(genuine, body, chance),
        is_forged=True,
    )


def _another(status: str) -> str:
    return "no_answer" if status == "completed" else "completed"


def _draw_signature(genuine: Delivery, body: bytes, chance: Random) -> str | None:
    kind = chance.choice(("genuine", "other_secret", "random", "malformed", "missing"))
    if kind == "genuine":
        return genuine.signature
    if kind == "other_secret":
        return sign(body, f"{genuine.target.secret}-not")
    if kind == "missing":
        return None
    return ("sha256=" if kind == "random" else "") + chance.randbytes(32).hex()
