"""The JSON shapes of a batch's outcomes; ``summary`` fills them and defines the figures."""

from collections.abc import Iterable
from datetime import date
from typing import Annotated, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from service.formant.events import STATUSES
from service.formant.wanted import Wanted
from service.outcomes.timeline import STEPS
from service.web.responses import Time
from service.wording import describe_reason

VERDICTS = ("unverified", "open", "settling", "complete", "drifted")
"""How far a batch's numbers can be trusted; ``service.reconciliation.drift`` decides."""
Verdict = Annotated[str, Meta(extra_json_schema={"enum": [*VERDICTS]})]
Number = int | float
ByStatus = Annotated[
    dict[str, int], Meta(extra_json_schema={"propertyNames": {"enum": [*STATUSES]}, "required": [*STATUSES]})
]


class Difference(msgspec.Struct, frozen=True):
    """One figure on which the two sides differ. ``reason`` says why that is allowed, or that grace is over."""

    figure: str
    ours: Number | None
    theirs: Number | None
    allowed: bool
    reason: str


class Inconsistency(msgspec.Struct, frozen=True):
    """A rule that the provider's own figures break: the figure it reported, and what follows from the others."""

    rule: str
    reported: Number
    expected: Number


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the verdict is what it is, for programs: a static code, and what it refers to."""

    code: str
    """See docs/analyse/codes.md."""
    figure: str | None = None
    count: Number | None = None
    recipients: list[int] = []
    """The numbers of a few of the recipients concerned."""
    done: int | None = None
    total: int | None = None
    """Of work under way: how much of how much is done."""
    expected_at: Time | None = None
    """When it is expected to end."""
    ours: Number | None = None
    theirs: Number | None = None
    """The figure here and at the provider. Of ``provider_inconsistent``, what it reports, and ``count`` what its other
    figures give."""
    since: Time | None = None
    """Since when nothing has changed."""
    cause: str | None = None
    """Of ``spilled``: ``waiting``, ``unseen``, ``replaced`` or ``announced``."""
    text: str = ""
    """The reason in words; empty if it was stored before there were any."""


def explain(reasons: Iterable[Reason]) -> list[Reason]:
    """The reasons, each with its words."""
    return [msgspec.structs.replace(reason, text=describe_reason(reason)) for reason in reasons]


class OutcomesBatch(TypedDict):
    """The batch that the figures describe."""

    id: int
    name: str
    agent_id: int
    status: str | None
    """The provider's value, unchanged."""
    created_at: Time | None


class RecipientCounts(TypedDict):
    """Recipients; ``total`` is the sum of the others."""

    total: int
    processed: int
    """Those with a final status."""
    in_progress: int
    """Those without a known attempt."""
    pending_retry: int
    """Those whose latest attempt will be followed by another."""


class AttemptCounts(TypedDict):
    """Attempts are calls. A recipient may have several."""

    total: int
    by_status: ByStatus
    recipients_by_attempts: dict[int, int]
    """How many recipients had 1, 2, … attempts."""
    recipients: int
    """Recipients with at least one attempt."""
    connects: int
    """Completed attempts."""


class Rate(TypedDict):
    """A share: ``count`` out of ``of``."""

    percent: float | None
    """Null when ``of`` is 0 or the count is unknown."""
    count: int | None
    of: int
    denominator: str
    """The name of the figure in ``of``."""


class Ratio(TypedDict):
    """A ratio: ``count`` divided by ``of``."""

    ratio: float | None
    """Null when ``of`` is 0."""
    count: int
    of: int
    denominator: str
    """The name of the figure in ``of``."""


class Rates(TypedDict):
    """Shares, each with its denominator."""

    success_rate: Rate
    """Completed out of all recipients: the provider's definition."""
    completion_rate: Rate
    """Completed out of processed recipients."""
    connect_rate: Rate
    """Completed attempts out of all attempts."""
    penetration: Rate
    """Recipients with at least one attempt, out of all recipients."""
    contact_rate: Rate
    """Recipients that any attempt reached, out of those with at least one attempt."""
    goal_rate: Rate
    """Recipients whose latest attempt meets the agent's goal, out of all recipients; in groups, of batches whose agent
    has a goal. Null without a goal, and while it is being counted after a change."""
    attempts_per_connect: Ratio
    """Attempts per completed attempt."""


class BatchGoal(TypedDict):
    """The goal of the batch's agent."""

    results: dict[str, list[Wanted]]
    """All results must match, each by any of its values."""
    set_at: Time
    is_counted: bool
    """False while the recipients are being counted after a change of the goal."""
    met: int | None
    """Recipients whose latest attempt meets it; null while they are being counted."""
    note: str | None
    """Why more may meet it, in a sentence; null if none may."""


class GroupGoal(TypedDict):
    """The batches of a group whose agents have a goal."""

    batches: int
    recipients: int
    """All recipients of these batches."""
    batches_being_counted: int
    """Those that are being counted after a change of the goal; until then the group has no goal rate."""


class Retries(TypedDict):
    """Recipients that wait for a retry, by when it is due; null when that is unknown."""

    outstanding: int
    """The sum of ``overdue``, ``due_within_hour``, ``due_later`` and ``without_time``."""
    overdue: int | None
    due_within_hour: int | None
    due_later: int | None
    without_time: int | None
    earliest_at: Time | None
    """If in the past, when the longest overdue retry was due."""
    next_at: Time | None
    precision_seconds: int


class TalkTimePrecision(TypedDict):
    """How exact the percentiles of talk time are."""

    exact_below_seconds: int
    within_percent: float
    at_least_from_seconds: int


class TalkTime(TypedDict):
    """Seconds talked, in the latest attempts of completed recipients."""

    average: float | None
    total: int
    count: int
    """How many of them have a duration."""
    p50: int | None
    p90: int | None
    p95: int | None
    p99: int | None
    precision: TalkTimePrecision


class ResultCounts(TypedDict):
    """One key of the agent's results: recipients by its value, most frequent first."""

    total: int
    values: dict[str, int]
    other: int
    """Recipients with any other value."""


class Estimate(TypedDict):
    """A share of attempts, with its 95 percent confidence interval (Wilson); null without attempts."""

    percent: float | None
    low_percent: float | None
    high_percent: float | None
    attempts: int


class HourCounts(TypedDict):
    """One hour of the day, in the requested time zone."""

    hour: int
    attempts: int
    connects: int
    connect_rate: Estimate


class WeekdayCounts(TypedDict):
    """One weekday, in the requested time zone: 1 is Monday."""

    weekday: int
    attempts: int
    connects: int
    connect_rate: Estimate


class CallerCounts(TypedDict):
    """Attempts made from one number."""

    from_phone: str
    attempts: int
    connects: int
    """Completed attempts."""
    connect_rate: Estimate


class OtherCallers(TypedDict):
    """Attempts made from any other number."""

    attempts: int
    connects: int


class Callers(TypedDict):
    """Attempts by the number that they were made from, most frequent first."""

    is_counted: bool
    """False while the service still counts the calls of a batch from before they were counted; nothing is shown
    until then."""
    values: list[CallerCounts]
    other: OtherCallers | None
    without_number: int | None
    """Attempts whose number is not known."""


class FailureReasons(TypedDict):
    """Attempts by the reason of their failure, in the provider's words, most frequent first."""

    is_counted: bool
    """As in ``callers``."""
    total: int | None
    """Attempts with a reason."""
    values: dict[str, int]
    other: int | None
    """Attempts with any other reason."""


class WeekdayHours(TypedDict):
    """One weekday, in the requested time zone, by its 24 hours."""

    weekday: int
    attempts: list[int]
    connects: list[int]


class TimelineEntry(TypedDict):
    """One hour or day of real time, in the requested time zone."""

    start: Time
    attempts: int
    """Calls that began in it."""
    connects: int
    """Completed ones."""
    expected: int
    """Recipients whose retry is due in it and has not happened yet; in the past these are overdue."""


class Timeline(TypedDict):
    """Calls over time. Hours and days without a call and without a retry due are left out."""

    step: Annotated[str, Meta(extra_json_schema={"enum": [*STEPS]})]
    values: list[TimelineEntry]
    """At most the latest 336 hours or 366 days, in the order of time."""
    has_earlier: bool
    without_time: int
    """Attempts for which the provider gave no time."""


class Sources(TypedDict):
    """Recipients by where their outcome comes from."""

    webhook: int
    healed: int
    """Their webhooks were lost; the outcome comes from the provider's record of the call."""


class LastComparison(TypedDict):
    """Why the verdict is what it is: the last comparison with the provider's figures."""

    verdict_since: Time | None
    reasons: list[Reason]
    differences: list[Difference]
    inconsistencies: list[Inconsistency]
    healed: int


class CampaignPart(TypedDict):
    """A batch of a campaign."""

    role: str
    """``test`` or ``main``."""
    upload_id: int
    batch_id: int | None
    state: str
    total_recipients: int


class CampaignRates(TypedDict):
    """Shares over the whole campaign."""

    success_rate: Rate


class Campaign(TypedDict):
    """A test batch and its main batch together; recipients still held count as in progress."""

    id: int
    batches: list[CampaignPart]
    recipients: RecipientCounts
    statuses: ByStatus
    rates: CampaignRates


class SliceAttempts(TypedDict):
    """Attempts of a slice."""

    total: int
    recipients: int


class SliceRates(TypedDict):
    """Shares of a slice."""

    success_rate: Rate
    completion_rate: Rate
    penetration: Rate


class Slice(TypedDict):
    """Recipients with one value of a call parameter or a result."""

    value: str | None
    recipients: RecipientCounts
    statuses: ByStatus
    attempts: SliceAttempts
    rates: SliceRates


class OtherSlice(Slice):
    """Recipients with any other value."""

    distinct_values: int


class SliceCost(TypedDict):
    """How the slices were computed, and what that cost."""

    how: str
    recipients: int
    seconds: float
    time_limit_seconds: float


class Slices(TypedDict):
    """The outcomes for each value, the most frequent first."""

    by: str
    values: list[Slice]
    other: OtherSlice | None
    computed: SliceCost


class Outcomes(TypedDict):
    """All known outcomes of a batch at one instant, and how final they are."""

    batch: OutcomesBatch
    verdict: Verdict
    """How far the numbers can be trusted: only ``complete`` is final."""
    verdict_text: str
    """The verdict and its reasons in a sentence."""
    as_of: Time
    """The instant of all figures."""
    last_event_at: Time | None
    last_reconciled_at: Time | None
    details_outstanding: int | None
    """Healed calls that are counted, and whose results and failure reasons are still being fetched; null as of an
    earlier time."""
    details_expected_at: Time | None
    """When they are expected; null if none is outstanding."""
    recipients: RecipientCounts
    statuses: ByStatus
    """Recipients by their final status."""
    attempts: AttemptCounts
    rates: Rates
    goal: BatchGoal | None
    """Null if the agent has no goal."""
    retries: Retries
    duration_seconds: TalkTime
    results: dict[str, ResultCounts]
    by_hour: list[HourCounts]
    by_weekday: list[WeekdayCounts]
    by_weekday_hour: list[WeekdayHours]
    timeline: Timeline
    callers: Callers
    failure_reasons: FailureReasons
    sources: Sources
    reconciliation: LastComparison | None
    """Null before the first comparison."""
    campaign: Campaign | None
    slices: NotRequired[Slices]
    """Only with ``by``."""


class GroupAttempts(TypedDict):
    """Attempts of a group."""

    total: int
    recipients: int
    """Recipients with at least one attempt."""
    connects: int
    """Completed attempts."""


class Group(TypedDict):
    """A group of batches: what they have in common, and the sums of their figures."""

    agent_id: NotRequired[int]
    day: NotRequired[date]
    name: NotRequired[str]
    campaign_id: NotRequired[int | None]
    batch_ids: NotRequired[list[int]]
    batches: int
    """The number of batches."""
    verdicts: dict[str, int]
    """The number of batches by verdict."""
    first_created_at: Time
    last_created_at: Time
    last_event_at: Time | None
    recipients: RecipientCounts
    statuses: ByStatus
    attempts: GroupAttempts
    rates: Rates
    goal: GroupGoal


GroupPage = TypedDict(
    "GroupPage",
    {
        "data": list[Group],
        "next": str | int | None,
        "has_more": bool,
        "as_of": Time,
        "group_by": str,
        "from": Time,
        "to": Time,
        "time_zone": str,
    },
)
GroupPage.__doc__ = "Groups of batches, and the parameters used. Ask for the next page with `after` = `next`."
