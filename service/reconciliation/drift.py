"""Drift: where our figures of a batch differ from the provider's, and the verdict that follows.

Pure: no clock, no database, no network. Both sides are given as the provider's twelve figures. ``telephony_failed`` has
no figure of its own there and is already part of ``failed_count``. Terms:

- A **difference** is between their figure and ours. Unavoidable differences are allowed, with the reason.
- An **inconsistency** is between the provider's own figures (contract, "Batch calls"). It is their error, not drift.
- While a batch is open its figures keep changing, so the current ones prove nothing. What the provider had counted a
  grace period ago and is still missing here is **lagging**: late webhooks no longer explain it, and healing may begin.
- An open batch is **stuck** when no figure of the provider has changed and no webhook has come for long, and the calls
  or retries that the provider still reports are overdue.
- Webhooks are **silent** when recipients are missing here, and the provider has finished some since the last webhook.
- Only what the provider sends restarts these times. What healing adds here makes no late webhook likelier.

| verdict | |
|---|---|
| ``unverified`` | too few of the provider's figures are known |
| ``open`` | the batch still has recipients in progress or waiting for a retry |
| ``settling`` | the batch has finished, the figures differ, and the grace period is still running |
| ``complete`` | the batch has finished, and the figures are equal |
| ``drifted`` | the batch has finished, and the figures differ beyond the grace period |
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from service.formant.batches import ProviderMetrics
from service.outcomes.shapes import Difference, Inconsistency, Number, Reason, Verdict
from service.web.responses import Time

FINALS = (
    "completed_count", "busy_count", "failed_count", "no_answer_count", "socket_failure_count", "unreachable_count",
)  # fmt: skip
FIGURES = ProviderMetrics.__struct_fields__
AVERAGE_TOLERANCE_SECONDS = 0.5
AVERAGE_TOLERANCE_SHARE = 0.01
SILENT_RECIPIENTS = 3
"""So many recipients in a row do not lose their webhooks by chance."""
RATE_TOLERANCE = 0.5
"""In percent; the provider may round to whole numbers. The counts behind a rate are compared as well."""


class Side(NamedTuple):
    """One side's figures. ``total`` is None where it is unknown: no recipients stored, or none given."""

    figures: ProviderMetrics
    total: int | None
    changed_at: datetime | None
    """When the provider last sent something new: theirs when they changed, ours when the last webhook came."""


class Assessment(msgspec.Struct, frozen=True):
    """The verdict on one comparison and its grounds."""

    verdict: Verdict
    reasons: list[Reason]
    differences: list[Difference]
    inconsistencies: list[Inconsistency]
    lagging: dict[str, int]
    """By figure: how many recipients the provider counted a grace period ago that are still missing here."""
    settles_at: Time | None
    """When the grace period ends; null when none is running."""
    verdict_text: str = ""
    """The verdict and its reasons in a sentence."""

    @property
    def needs_healing(self) -> bool:
        """Whether calls are missing here that only healing can add."""
        return self.verdict == "drifted" or bool(self.lagging)

    @property
    def may_be_healed(self) -> bool:
        """Whether healing may add calls, even if their webhooks may still arrive."""
        return self.verdict in ("settling", "drifted") or (
            self.verdict == "open" and bool(_find_behind(self.differences))
        )


def assess(
    theirs: Side | None,
    ours: Side,
    *,
    now: datetime,
    grace_seconds: float,
    earlier: ProviderMetrics | None = None,
    stuck_seconds: float = 0.0,
    expected_retries: int = 0,
    unheard: int = 0,
) -> Assessment:
    """Compares the sides. ``earlier`` holds the provider's figures from a grace period ago, where known.

    ``stuck_seconds`` is how long an open batch may stand still (0: without end); ``expected_retries`` is the number of
    recipients here whose retry is not overdue by that long; ``unheard`` is what ``count_unheard`` gives.
    """
    if theirs is None:
        return Assessment("unverified", [Reason("never_compared")], [], [], {}, None)
    inconsistencies = find_inconsistencies(theirs)
    inconsistent = [
        Reason("provider_inconsistent", found.rule, found.expected, theirs=found.reported) for found in inconsistencies
    ]
    processed = _count_processed(theirs)
    if processed is None:
        missing = [Reason("not_reported", figure) for figure in FIGURES if getattr(theirs.figures, figure) is None]
        return Assessment("unverified", missing + inconsistent, _compare(theirs, ours), inconsistencies, {}, None)

    excess = _find_excess(theirs, ours)
    unfinished = _find_unfinished(theirs, processed)
    settles_at = _find_settling(theirs, ours, grace_seconds)
    is_over = settles_at is None or settles_at <= now
    lagging = _find_lagging(earlier, theirs.figures, ours.figures)
    differences = [
        difference if difference.allowed else _judge(difference, unfinished, lagging, is_over=is_over)
        for difference in _compare(theirs, ours)
    ]
    if unfinished and is_over:
        lagging |= _find_behind(differences)
    unsettled = [one for one in differences if not one.allowed or one.reason == "within_grace"]
    stuck = _find_stuck(theirs, ours, unfinished, expected_retries, now=now, stuck_seconds=stuck_seconds)
    reasons = [*unfinished, *stuck, *[_to_reason(difference, settles_at) for difference in unsettled]]
    reasons += [*inconsistent, *excess]
    for figure, count in lagging.items():
        mine = getattr(ours.figures, figure)
        reasons.append(Reason("lagging", figure, count, ours=mine, theirs=mine + count))
    if lagging and unheard >= SILENT_RECIPIENTS:
        reasons.append(Reason("webhooks_silent"))
    if unfinished:
        verdict = "open"
    elif unsettled:
        verdict = "drifted" if is_over else "settling"
    else:
        verdict = "complete"
    return Assessment(
        verdict, reasons, differences, inconsistencies, lagging, settles_at if verdict == "settling" else None
    )


def _to_reason(difference: Difference, settles_at: datetime | None) -> Reason:
    expected_at = settles_at if difference.reason == "within_grace" else None
    return Reason(
        difference.reason, difference.figure, expected_at=expected_at, ours=difference.ours, theirs=difference.theirs
    )


def find_inconsistencies(theirs: Side) -> list[Inconsistency]:
    """Where the provider's figures contradict each other. A rule that needs a missing figure is skipped."""
    figures = theirs.figures
    found = []
    finals = _sum(figures, FINALS)
    if figures.total_processed is not None and finals is not None and figures.total_processed != finals:
        found.append(Inconsistency("total_processed_is_the_sum_of_finals", figures.total_processed, finals))
    states = _sum(figures, ("total_processed", "in_progress_count", "pending_retry_count"))
    if theirs.total is not None and states is not None and theirs.total != states:
        found.append(Inconsistency("total_is_processed_in_progress_and_pending", theirs.total, states))
    if theirs.total and figures.success_count is not None and figures.success_rate is not None:
        rate = 100 * figures.success_count / theirs.total
        if abs(rate - figures.success_rate) > RATE_TOLERANCE:
            found.append(Inconsistency("success_rate_is_success_of_total", figures.success_rate, round(rate, 1)))
    return found


def _compare(theirs: Side, ours: Side) -> list[Difference]:
    """The figures that differ. Differences by rounding or by a missing figure are already marked as allowed."""
    found = []
    for figure in FIGURES:
        mine, other = getattr(ours.figures, figure), getattr(theirs.figures, figure)
        if mine != other:
            reason = "not_reported" if mine is None or other is None else _find_tolerance(figure, mine, other)
            found.append(Difference(figure, mine, other, bool(reason), reason))
    if theirs.total != ours.total:
        reason = "" if theirs.total is not None and ours.total is not None else "not_reported"
        found.append(Difference("total_recipients", ours.total, theirs.total, bool(reason), reason))
    return found


def _find_tolerance(figure: str, ours: Number, theirs: Number) -> str:
    """Why two numbers count as equal, or "" when they do not."""
    if figure == "avg_duration_seconds":
        slack = max(AVERAGE_TOLERANCE_SECONDS, AVERAGE_TOLERANCE_SHARE * abs(theirs))
    elif figure == "success_rate":
        slack = RATE_TOLERANCE
    else:
        return ""
    return "rounding" if abs(ours - theirs) <= slack else ""


def _judge(difference: Difference, unfinished: list[Reason], lagging: dict[str, int], *, is_over: bool) -> Difference:
    """The difference, allowed where a running grace period or unfinished calls explain it."""
    if difference.figure in lagging:
        return msgspec.structs.replace(difference, reason="beyond_grace")
    if not is_over:
        return msgspec.structs.replace(difference, allowed=True, reason="within_grace")
    # The provider counts a retry being dialled as in progress; here it waits until its webhook arrives.
    if unfinished and difference.figure in ("in_progress_count", "pending_retry_count"):
        return msgspec.structs.replace(difference, allowed=True, reason="under_way")
    return msgspec.structs.replace(difference, reason="beyond_grace")


def _count_processed(theirs: Side) -> int | None:
    """How many recipients the provider has finished; None where two or more of the seven figures needed are missing.

    The seven are the six finals and their sum, ``total_processed``, so one of them can be missing.
    """
    figures = theirs.figures
    missing = sum(getattr(figures, figure) is None for figure in (*FINALS, "total_processed"))
    if missing > 1:
        return None
    return _sum(figures, FINALS) if figures.total_processed is None else figures.total_processed


def _find_unfinished(theirs: Side, processed: int) -> list[Reason]:
    """Why the provider has not finished; empty when it has."""
    found = [
        Reason(code, figure, count)
        for code, figure in (("in_progress", "in_progress_count"), ("waiting_for_retry", "pending_retry_count"))
        if (count := getattr(theirs.figures, figure)) is not None and count > 0
    ]
    if not found and theirs.total is not None and processed < theirs.total:
        found.append(Reason("not_all_processed", "total_processed", theirs.total - processed))
    return found


def _find_stuck(
    theirs: Side,
    ours: Side,
    unfinished: list[Reason],
    expected_retries: int,
    *,
    now: datetime,
    stuck_seconds: float,
) -> list[Reason]:
    """How many recipients the provider has left unfinished although nothing moves; empty where something may."""
    changes = [side.changed_at for side in (theirs, ours) if side.changed_at is not None]
    if not stuck_seconds or not changes or now - max(changes) < timedelta(seconds=stuck_seconds):
        return []
    left = sum(int(reason.count or 0) for reason in unfinished) - expected_retries
    return [Reason("stuck", count=left, since=max(changes))] if left > 0 else []


def _find_settling(theirs: Side, ours: Side, grace_seconds: float) -> datetime | None:
    """When the grace period ends: it starts when the provider last sent something new."""
    changes = [side.changed_at for side in (theirs, ours) if side.changed_at is not None]
    return max(changes) + timedelta(seconds=grace_seconds) if changes else None


def _find_lagging(earlier: ProviderMetrics | None, theirs: ProviderMetrics, ours: ProviderMetrics) -> dict[str, int]:
    """Finals that the provider counted a grace period ago and still counts, but that are missing here. At the provider
    finals only grow."""
    if earlier is None:
        return {}
    lagging = {}
    for figure in FINALS:
        then, now, mine = getattr(earlier, figure), getattr(theirs, figure), getattr(ours, figure)
        if then is not None and now is not None and mine is not None and min(then, now) > mine:
            lagging[figure] = min(then, now) - mine
    return lagging


def _find_behind(differences: list[Difference]) -> dict[str, int]:
    """Finals that the provider counts and that are missing here."""
    return {
        d.figure: d.theirs - d.ours
        for d in differences
        if d.figure in FINALS and isinstance(d.theirs, int) and isinstance(d.ours, int) and d.theirs > d.ours
    }


def _find_excess(theirs: Side, ours: Side) -> list[Reason]:
    """By how many the recipients with calls here exceed the provider's total."""
    known = _sum(ours.figures, (*FINALS, "pending_retry_count"))
    if theirs.total is None or known is None or known <= theirs.total:
        return []
    return [Reason("more_recipients_than_total", "total_recipients", known - theirs.total)]


def count_unheard(earlier: ProviderMetrics | None, heard: ProviderMetrics | None) -> int:
    """How many recipients the provider has finished without a webhook: by its figures ``earlier``, a grace period ago,
    beyond those of ``heard``, its figures a grace period after the last webhook, or when the batch was first seen. 0
    where either is not known."""
    if earlier is None or heard is None:
        return 0
    sides = ((getattr(earlier, name), getattr(heard, name)) for name in FINALS)
    return sum(max(0, then - known) for then, known in sides if then is not None and known is not None)


def _sum(figures: ProviderMetrics, names: tuple[str, ...]) -> int | None:
    values = [getattr(figures, name) for name in names]
    return None if None in values else sum(values)
