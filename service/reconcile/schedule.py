"""When a batch is compared again: soon after a change on either side, rarely when nothing moves."""

from datetime import UTC, datetime, timedelta

from service.reconcile.drift import Assessment

QUIET_SHARE = 0.25
"""A batch that has not moved for so long is looked at again after this share of it."""
RARELY = timedelta(hours=1)
CLOSED_AFTER = timedelta(days=1)
REPEAT_HEALING = timedelta(hours=6)
FOREVER = datetime.max.replace(tzinfo=UTC)
"""The database's infinity."""


def plan_next(assessment: Assessment, *, now: datetime, changed_at: datetime, interval: timedelta) -> datetime:
    """When a batch is to be compared again: the longer nothing moved, the later. ``FOREVER``: only after an event."""
    quiet = now - changed_at
    if assessment.verdict == "complete" and quiet >= CLOSED_AFTER:
        return FOREVER
    due_at = now + min(max(quiet * QUIET_SHARE, interval), max(RARELY, interval))
    if assessment.settles_at is not None:
        due_at = min(due_at, max(assessment.settles_at, now + timedelta(seconds=1)))
    return due_at


def may_heal_again(walked_at: datetime | None, *, now: datetime, changed_at: datetime, grace_seconds: float) -> bool:
    """Not before another grace has passed, and rarely where nothing has changed since the last walk."""
    if walked_at is None:
        return True
    wait = timedelta(seconds=grace_seconds) if changed_at > walked_at else REPEAT_HEALING
    return now - walked_at >= wait
