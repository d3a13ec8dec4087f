"""From an ended call to deliveries: writes the event for every target and lets the faults have their way with it."""

from dataclasses import replace

from service.formant.signature import sign
from service.sandbox.calls import Call
from service.sandbox.deliveries import Deliveries, Delivery
from service.sandbox.dice import dice
from service.sandbox.events import EventWriter
from service.sandbox.faults import Faults
from service.sandbox.forgeries import forge
from service.sandbox.journal import Journal
from service.sandbox.options import Target
from service.sandbox.records import Attempt
from service.sandbox.timeline import Timeline

_SOONEST_LATE_SECONDS = 1.0
_LONGEST_FORGERY_SECONDS = 5.0


class Publisher:
    """Plans the deliveries of each event. Every draw is seeded by event and target, one die for each fault."""

    def __init__(
        self,
        *,
        targets: tuple[Target, ...],
        seed: int,
        writer: EventWriter,
        timeline: Timeline,
        deliveries: Deliveries,
        faults: Faults,
        journal: Journal,
    ) -> None:
        self._targets = targets
        self._seed = seed
        self._writer = writer
        self._timeline = timeline
        self._deliveries = deliveries
        self._faults = faults
        self._journal = journal

    def publish(self, attempt: Attempt, call: Call) -> None:
        """Makes the event of an attempt that has just ended and plans its way to every target that wants it."""
        attempt.event_id = self._writer.name_event(attempt)
        for index, target in enumerate(self._targets):
            is_wanted = call.status in target.statuses
            attempt.fates.append("pending" if is_wanted else "unwanted")
            if is_wanted:
                self._plan(attempt, call, index, target)

    def _plan(self, attempt: Attempt, call: Call, index: int, target: Target) -> None:
        body = self._writer.write(attempt, call, target)
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
        if self._strikes("drop", delivery, self._faults.drop):
            self._journal.deliveries["dropped"] += 1
            attempt.fates[index] = "dropped"
            return
        wait = self._draw_wait(delivery)
        self._send_in(wait, delivery)
        if self._strikes("duplicate", delivery, self._faults.duplicate):
            self._journal.deliveries["duplicated"] += 1
            again = self._draw_seconds("duplicate-wait", delivery, self._faults.longest_delay_seconds)
            self._send_in(wait + again, replace(delivery))

    def _plan_forgery(self, delivery: Delivery) -> None:
        # Without a secret nobody can tell a forgery, so it would prove nothing.
        if delivery.target.secret is not None and self._strikes("forge", delivery, self._faults.bad_signature):
            chance = dice(self._seed, "forgery", delivery.event_id, delivery.target_index)
            # Half of them come at once, before the genuine event: a receiver must not remember the id of a forgery.
            wait = chance.choice((0.0, chance.uniform(0, _LONGEST_FORGERY_SECONDS)))
            self._send_in(wait, forge(delivery, chance))

    def _draw_wait(self, delivery: Delivery) -> float:
        wait = self._draw_seconds("reorder-wait", delivery, self._faults.reorder_seconds)
        if self._strikes("delay", delivery, self._faults.delay):
            self._journal.deliveries["delayed"] += 1
            longest = max(_SOONEST_LATE_SECONDS, self._faults.longest_delay_seconds)
            wait += _SOONEST_LATE_SECONDS
            wait += self._draw_seconds("delay-wait", delivery, longest - _SOONEST_LATE_SECONDS)
        return wait

    def _send_in(self, seconds: float, delivery: Delivery) -> None:
        delivery.attempt.batch.put_on_its_way()
        closed_at = delivery.attempt.closed_at or 0.0
        self._timeline.call_at(closed_at + seconds, self._deliveries.enqueue, delivery)

    def _strikes(self, fault: str, delivery: Delivery, rate: float) -> bool:
        return rate > 0 and self._draw_seconds(fault, delivery, 1.0) < rate

    def _draw_seconds(self, purpose: str, delivery: Delivery, longest: float) -> float:
        if longest <= 0:
            return 0.0
        return dice(self._seed, purpose, delivery.event_id, delivery.target_index).random() * longest
