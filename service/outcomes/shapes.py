"""The shapes of what is told of a batch's outcomes; ``summary`` fills them, and defines the figures."""

from datetime import datetime
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from service.formant.events import STATUSES

VERDICTS = ("unverified", "open", "settling", "complete", "drifted")
"""What a batch's numbers may be worth; ``service.reconcile.drift`` decides."""
Time = Annotated[datetime, Meta(tz=True)]
Verdict = Annotated[str, Meta(extra_json_schema={"enum": [*VERDICTS]})]
ByStatus = Annotated[
    dict[str, int], Meta(extra_json_schema={"propertyNames": {"enum": [*STATUSES]}, "required": [*STATUSES]})
]


def _several(component: str) -> Meta:
    """A list of what is shaped in ``service.reconcile``, above this package: by its name in the documentation."""
    return Meta(extra_json_schema={"items": {"$ref": f"#/components/schemas/{component}"}})


class OutcomesBatch(TypedDict):
    """The batch that the figures are of."""

    id: int
    name: str
    agent_id: int
    status: str | None
    """The provider's word, whatever it is."""
    created_at: Time | None


class RecipientCounts(TypedDict):
    """Recipients; ``total`` is the sum of the others."""

    total: int
    processed: int
    """Those with a final status."""
    in_progress: int
    """Those of whom no attempt is known yet."""
    pending_retry: int
    """Those whose latest attempt is to be followed by another."""


class AttemptCounts(TypedDict):
    """Attempts: calls made, of which a recipient may have several."""

    total: int
    by_status: ByStatus
    recipients_by_attempts: dict[int, int]
    """How many recipients had 1, 2, … attempts."""


class Rate(TypedDict):
    """A share: ``count`` of ``of``."""

    percent: float | None
    """Null where there is nothing to take a share of."""
    count: int
    of: int
    denominator: str
    """The name of the figure in ``of``."""


class Rates(TypedDict):
    """Shares, each with its denominator."""

    success_rate: Rate
    """Completed of all recipients: the provider's definition."""
    completion_rate: Rate
    """Completed of the processed recipients."""
    connect_rate: Rate
    """Completed attempts of all attempts."""


class TalkTime(TypedDict):
    """Seconds talked, in the latest attempts of completed recipients."""

    average: float | None
    total: int
    count: int
    """How many of them tell a duration."""


class ResultCounts(TypedDict):
    """One key of the agent's results: recipients by its value, most frequent first."""

    total: int
    values: dict[str, int]
    other: int
    """Recipients with any other value."""


class HourCounts(TypedDict):
    """One hour of the day, in the time zone asked for."""

    hour: int
    attempts: int
    connects: int


class Sources(TypedDict):
    """Recipients by how their outcome is known."""

    webhook: int
    healed: int
    """Their webhooks were lost, and the provider's record of the call was fetched."""


class LastComparison(TypedDict):
    """Why the verdict is what it is: the last comparison with the provider's figures."""

    verdict_since: Time | None
    reasons: Annotated[list[Any], _several("Reason")]
    differences: Annotated[list[Any], _several("Difference")]
    inconsistencies: Annotated[list[Any], _several("Inconsistency")]
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
    """A test batch and its main batch together; what is held yet counts as in progress."""

    id: int
    batches: list[CampaignPart]
    recipients: RecipientCounts
    statuses: ByStatus
    rates: CampaignRates


class Outcomes(TypedDict):
    """Everything that is known about a batch's outcomes, of one instant, and how final it is."""

    batch: OutcomesBatch
    verdict: Verdict
    """What the numbers are worth: only ``complete`` is final."""
    as_of: Time
    """The instant of which all figures are."""
    last_event_at: Time | None
    last_reconciled_at: Time | None
    recipients: RecipientCounts
    statuses: ByStatus
    """Recipients by their final status."""
    attempts: AttemptCounts
    rates: Rates
    duration_seconds: TalkTime
    results: dict[str, ResultCounts]
    by_hour: list[HourCounts]
    sources: Sources
    reconciliation: LastComparison | None
    """Null before the first comparison."""
    campaign: Campaign | None
