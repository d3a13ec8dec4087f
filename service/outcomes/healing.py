"""Healing that is under way, as readers see it: the reason ``healing``, with how far it has come.

Its unit is the recipient whose final outcome is missing here: by the provider's figures as of the last comparison, and
by our counters now. Those found missing later raise the total, so ``done`` only grows, and equals ``total`` only once
none is missing.
"""

from datetime import datetime

import msgspec

from service.formant.batches import ProviderMetrics
from service.outcomes.shapes import Reason, explain

HEALING, DETAILS = "healing", "details_outstanding"


class Missing(msgspec.Struct, omit_defaults=True):
    """The recipients whose final outcome is missing here; part of ``batch_schedules.healing``."""

    missing: int = 0
    """At the last comparison."""
    total: int = 0
    """Those that were found missing since healing began."""
    finals: dict[str, int] = {}
    """The provider's finished recipients at the last comparison, by figure."""

    def count(self, ours: ProviderMetrics) -> "Missing":
        """The same with our figures of now."""
        missing = sum(max(0, theirs - (getattr(ours, figure) or 0)) for figure, theirs in self.finals.items())
        missing = missing if self.finals else self.missing
        return Missing(missing, max(self.total, self.missing) + max(0, missing - self.missing), self.finals)

    def compare(self, finals: dict[str, int], ours: ProviderMetrics) -> "Missing":
        """The same with both sides' figures of now."""
        known = self.count(ours)
        return Missing(known.missing, known.total, finals).count(ours)


class _Healing(Missing):
    began_at: datetime | None = None
    walked_at: datetime | None = None
    expected_at: datetime | None = None


def describe_healing(healing: str | None, ours: ProviderMetrics, now: datetime) -> Reason | None:
    """The reason from the stored progress and our figures; None unless healing is under way."""
    if healing is None:
        return None
    progress = msgspec.json.decode(healing, type=_Healing)
    if progress.began_at is None or progress.walked_at is not None:
        return None
    known = progress.count(ours)
    reason = Reason(
        HEALING, done=known.total - known.missing, total=known.total, expected_at=only_future(progress.expected_at, now)
    )
    return explain([reason])[0]


def describe_details(outstanding: int | None, expected_at: datetime | None, now: datetime) -> Reason | None:
    """The reason that results are still being fetched; None if none are outstanding."""
    if not outstanding:
        return None
    return explain([Reason(DETAILS, count=outstanding, expected_at=only_future(expected_at, now))])[0]


def only_future(expected_at: datetime | None, now: datetime) -> datetime | None:
    """The time, unless it has passed: then nobody knows."""
    return expected_at if expected_at is not None and expected_at > now else None


def update_reasons(
    reasons: list[Reason], healing: Reason | None, ours: ProviderMetrics, details: Reason | None = None
) -> list[Reason]:
    """The reasons of the last comparison as of now: with how far healing and fetching details have come since. While a
    batch is healed, its reasons show our figures of now."""
    others = [reason for reason in reasons if reason.code not in (HEALING, DETAILS)]
    if healing is not None:
        updated = (_update(reason, ours) for reason in others)
        others = [healing, *explain(reason for reason in updated if reason is not None)]
    return others if details is None else [*others, details]


def _update(reason: Reason, ours: ProviderMetrics) -> Reason | None:
    """The reason with our figure of now; None where that is no reason any more."""
    known = getattr(ours, reason.figure or "", None)
    if reason.ours is None or reason.theirs is None or known is None:
        return reason
    if reason.code == "lagging":
        count = reason.theirs - known
        return msgspec.structs.replace(reason, ours=known, count=count) if count > 0 else None
    return msgspec.structs.replace(reason, ours=known) if known != reason.theirs else None
