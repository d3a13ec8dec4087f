"""From an ended call to deliveries: writes the event for every target and applies the faults."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec

from service.formant.signature import sign
from service.sandbox.calls import Call, seeded_random
from service.sandbox.clock import Timeline
from service.sandbox.deliveries import Deliveries, Delivery
from service.sandbox.events import EventWriter
from service.sandbox.faults import Faults
from service.sandbox.options import WebhookTarget
from service.sandbox.records import Attempt, Journal

_MIN_DELAY_SECONDS = 1.0
_MAX_FORGERY_SECONDS = 5.0


@dataclass(kw_only=True, eq=False)
class Publisher:
    """Plans the deliveries of each event. Each fault has its own draw, seeded by event and target."""

    targets: tuple[WebhookTarget, ...]
    seed: int
    writer: EventWriter
    timeline: Timeline
    deliveries: Deliveries
    faults: Faults
    journal: Journal

    def publish(self, attempt: Attempt, call: Call) -> None:
        """Plans the deliveries of an attempt that has just ended to every target that wants its status."""
        attempt.event_id = self.writer.name_event(attempt)
        for index, target in enumerate(self.targets):
            is_wanted = call.status in target.statuses
            attempt.fates.append("pending" if is_wanted else "unwanted")
            if is_wanted:
                self._plan(attempt, call, index, target)

    def _plan(self, attempt: Attempt, call: Call, index: int, target: WebhookTarget) -> None:
        body = self.writer.write(attempt, call, target)
        delivery = Delivery(
            attempt,
            target,
            index,
            event_id=str(attempt.event_id),
            event_type=f"call.{call.status}",
            body=body,
            signature=None if target.secret is None else sign(body, target.secret),
        )
        self._plan_forgery(delivery)
        if self._strikes("drop", delivery, self.faults.drop):
            self.journal.deliveries["dropped"] += 1
            attempt.fates[index] = "dropped"
            return
        wait = self._draw_wait(delivery)
        self._send_in(wait, delivery)
        if self._strikes("duplicate", delivery, self.faults.duplicate):
            self.journal.deliveries["duplicated"] += 1
            again = self._draw_seconds("duplicate-wait", delivery, self.faults.longest_delay_seconds)
            self._send_in(wait + again, replace(delivery))

    def _plan_forgery(self, delivery: Delivery) -> None:
        # Without a secret the receiver cannot recognise a forgery.
        if delivery.target.secret is not None and self._strikes("forge", delivery, self.faults.bad_signature):
            chance = seeded_random(self.seed, "forgery", delivery.event_id, delivery.target_index)
            # Half arrive before the genuine event: a receiver must not remember the id of a forgery.
            wait = chance.choice((0.0, chance.uniform(0, _MAX_FORGERY_SECONDS)))
            self._send_in(wait, _forge(delivery, chance))

    def _draw_wait(self, delivery: Delivery) -> float:
        wait = self._draw_seconds("reorder-wait", delivery, self.faults.reorder_seconds)
        if self._strikes("delay", delivery, self.faults.delay):
            self.journal.deliveries["delayed"] += 1
            longest = max(_MIN_DELAY_SECONDS, self.faults.longest_delay_seconds)
            wait += _MIN_DELAY_SECONDS
            wait += self._draw_seconds("delay-wait", delivery, longest - _MIN_DELAY_SECONDS)
        return wait

    def _send_in(self, seconds: float, delivery: Delivery) -> None:
        delivery.attempt.batch.outstanding += 1
        closed_at = delivery.attempt.closed_at or 0.0
        self.timeline.call_at(closed_at + seconds, self.deliveries.enqueue, delivery)

    def _strikes(self, fault: str, delivery: Delivery, rate: float) -> bool:
        return rate > 0 and self._draw_seconds(fault, delivery, 1.0) < rate

    def _draw_seconds(self, purpose: str, delivery: Delivery, longest: float) -> float:
        if longest <= 0:
            return 0.0
        return seeded_random(self.seed, purpose, delivery.event_id, delivery.target_index).random() * longest


_UNKNOWN_STATUS_SHARE, _OWN_ID_SHARE = 0.1, 0.5


def _forge(genuine: Delivery, chance: Random) -> Delivery:
    """A delivery that claims another outcome for the same call, sometimes under the genuine event's id.

    Its signature is the genuine event's, another secret's, random, malformed or missing. None verifies, since the body
    always differs from the genuine one.
    """
    envelope: dict[str, Any] = msgspec.json.decode(genuine.body)
    call = envelope["data"]["call"]
    another = "no_answer" if call["status"] == "completed" else "completed"
    call["status"] = "refused_by_forger" if chance.random() < _UNKNOWN_STATUS_SHARE else another
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


def _draw_signature(genuine: Delivery, body: bytes, chance: Random) -> str | None:
    kind = chance.choice(("genuine", "other_secret", "random", "malformed", "missing"))
    if kind == "genuine":
        return genuine.signature
    if kind == "other_secret":
        return sign(body, f"{genuine.target.secret}-not")
    if kind == "missing":
        return None
    return ("sha256=" if kind == "random" else "") + chance.randbytes(32).hex()
