"""Healing that is under way, as readers see it: the reason ``healing``, with how far it has come."""

from datetime import datetime

import msgspec

from service.outcomes.shapes import Reason, explain

CODE = "healing"


class _Healing(msgspec.Struct):
    """The part of ``batch_schedules.healing`` that readers see."""

    began_at: datetime | None = None
    walked_at: datetime | None = None
    healed: int = 0
    missing: int = 0
    expected_at: datetime | None = None


def update_reasons(reasons: list[Reason], healing: Reason | None) -> list[Reason]:
    """The reasons of the last comparison, with how far healing has come since then; without it where it is over."""
    others = [reason for reason in reasons if reason.code != CODE]
    return others if healing is None else [healing, *others]


def describe_healing(healing: str | None) -> Reason | None:
    """The reason from the stored progress; None unless healing is under way."""
    if healing is None:
        return None
    progress = msgspec.json.decode(healing, type=_Healing)
    if progress.began_at is None or progress.walked_at is not None:
        return None
    # Recipients are missing, and several of a recipient's calls may be healed.
    done = min(progress.healed, progress.missing)
    (reason,) = explain([Reason(CODE, done=done, total=progress.missing, expected_at=progress.expected_at)])
    return reason
