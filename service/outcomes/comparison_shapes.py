"""The JSON shapes of a comparison; ``comparison`` fills them."""

from typing import Annotated, TypedDict

from msgspec import Meta

from service.outcomes.shapes import RecipientCounts
from service.web.responses import Time

COMPARED = ("higher", "lower", "no_clear_difference", "too_few", "unknown")
ComparisonVerdict = Annotated[str, Meta(extra_json_schema={"enum": [*COMPARED]})]


class Sample(TypedDict):
    """A figure of one side, with the ends of its 95 percent confidence interval."""

    value: float | None
    """In the unit of the figure; null when it is unknown or ``of`` is 0."""
    low: float | None
    high: float | None
    count: int | None
    """Null when it is unknown."""
    of: int
    """The size of the sample."""
    denominator: str
    """The name of ``of``, as in …/outcomes."""


class SampleDifference(TypedDict):
    """The right side minus the left one, with the ends of its 95 percent confidence interval."""

    value: float
    low: float | None
    """Null for attempts per connect, whose verdict follows from the connect rate."""
    high: float | None


class Compared(TypedDict):
    """A figure, or a value, on both sides."""

    name: str
    """A figure, a value of the result, or a caller number."""
    unit: str
    """``percent`` (differences are in percentage points), ``seconds``, or ``attempts``."""
    left: Sample
    right: Sample
    difference: SampleDifference | None
    p_value: float | None
    """Of both sides being equal; null where nothing was tested."""
    adjusted_p_value: float | None
    """Corrected for the number of tests in the same list."""
    verdict: ComparisonVerdict
    """How the right side stands to the left one."""
    verdict_text: str


class ComparedSide(TypedDict):
    """A side of a comparison."""

    side: str
    """As it was asked."""
    batches: int
    batch_ids: list[int]
    """The first 50."""
    verdicts: dict[str, int]
    """The number of batches by verdict."""
    is_final: bool
    """Whether there are batches, and all are ``complete``."""
    first_created_at: Time | None
    last_created_at: Time | None
    last_event_at: Time | None
    recipients: RecipientCounts


class ComparisonNote(TypedDict):
    """What to keep in mind."""

    code: str
    """See docs/analyse/codes.md."""
    side: str | None
    """``left`` or ``right``; null for both."""
    text: str


class Correction(TypedDict):
    """How p-values are corrected, in each list by itself."""

    method: str
    false_discovery_percent: float


class Comparison(TypedDict):
    """Two sides, figure by figure."""

    left: ComparedSide
    right: ComparedSide
    as_of: Time
    time_zone: str
    confidence_percent: float
    correction: Correction
    figures: list[Compared]
    by: str | None
    values: list[Compared] | None
    """Values of the result, or caller numbers, the most frequent first; null without ``by``."""
    results: list[str]
    """The names of results on either side, for ``by``."""
    notes: list[ComparisonNote]
