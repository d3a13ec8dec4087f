"""How a sandbox behaves, fixed at its start. What can change while it runs is in ``faults``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from service.sandbox.languages import LANGUAGES, Language

MAX_TARGETS = 5
"""The provider allows at most five webhook targets for an agent."""

STATUSES = ("completed", "no_answer", "busy", "unreachable", "failed", "telephony_failed", "socket_failure")
"""The final statuses of a call: the event types without ``call.``."""

UnansweredBlocks = Literal["full", "null", "absent"]
ConversationIds = Literal["per-attempt", "per-recipient"]
ConversationsShown = Literal["ended", "all"]
CallKind = Literal["batch", "single", "inbound"]


class OptionError(ValueError):
    """An option is invalid; the message says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookTarget:
    """One webhook target, as set up in the provider's dashboard. Without a secret its webhooks are unsigned."""

    url: str
    secret: str | None = field(default=None, repr=False)
    statuses: frozenset[str] = frozenset(STATUSES)
    transcript: bool = False
    recording: bool = False

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise OptionError(f"{self.url!r} is not an http or https address")
        if not self.statuses <= set(STATUSES):
            raise OptionError(f"a target's statuses are among {', '.join(STATUSES)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxOptions:
    """The options of a sandbox. Delays are in virtual seconds unless the name says real."""

    api_keys: tuple[str, ...] = field(default=("sandbox-key",), repr=False)
    agents: frozenset[int] = frozenset()
    """The agents that exist; an upload for any other gets 404. Empty: every agent exists."""
    targets: tuple[WebhookTarget, ...] = ()

    seed: int | None = None
    """None: a random one, so that ids of two runs never collide."""
    first_batch_id: int | None = None
    """None: from the real time, so that ids of two runs do not collide."""
    start: float | None = None
    """The virtual time at the start, in seconds since the epoch. None: the real time."""
    speed: float = 60.0

    lines: int = 20
    """Concurrent calls per agent."""
    completed_share: float = 0.5
    """Share of dials that are completed; the other outcomes keep their proportions."""
    caller_numbers: int = 1
    """Numbers that each agent calls from, in turn by chance."""
    weak_caller: bool = False
    """Whether the last of them is marked as spam: its calls are completed ``WEAK_SHARE`` as often."""
    max_attempts: int = 3
    retry_seconds: float = 1800.0
    """The wait after an unanswered call; the other outcomes wait a fixed multiple of it."""
    other_share: float = 0.0
    """Share of a batch's recipients with whom the agent also has a single or an inbound call within an hour."""
    languages: tuple[Language, ...] = ("en",)
    """Of the results of calls; each recipient speaks one of them, by chance."""
    script: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Fixed outcomes of some phones, by attempt; the last one applies to all further attempts."""

    unanswered: UnansweredBlocks = "full"
    conversation_ids: ConversationIds = "per-attempt"
    conversations_shown: ConversationsShown = "ended"
    list_totals: bool = False
    """Whether ``GET /v1/batch-calls`` has ``total`` and ``has_more``: not documented."""

    rate_limit: int = 50
    rate_window_real_seconds: float = 1.0
    max_active_batches: int | None = None
    """An upload beyond this is refused with ``concurrent_call_limit_exceeded``. None: no limit."""

    delivery_concurrency: int = 32
    delivery_timeout_real_seconds: float = 10.0

    def __post_init__(self) -> None:
        for is_right, rule in (
            (bool(self.api_keys), "at least one API key is needed"),
            (len(self.targets) <= MAX_TARGETS, f"an agent has at most {MAX_TARGETS} webhook targets"),
            (math.isfinite(self.speed) and self.speed > 0, "the speed must be above 0"),
            (self.lines >= 1, "at least one line is needed"),
            (0 <= self.completed_share <= 1, "the completed share must be between 0 and 1"),
            (0 <= self.other_share <= 1, "the share of other calls must be between 0 and 1"),
            (1 <= self.caller_numbers <= 100, "an agent calls from 1 to 100 numbers"),
            (bool(self.languages) and set(self.languages) <= set(LANGUAGES), f"languages are {', '.join(LANGUAGES)}"),
            (self.max_attempts >= 1, "at least one attempt is needed"),
            (self.retry_seconds >= 0, "the retry wait must not be negative"),
            (set().union(*self.script.values()) <= set(STATUSES), f"a script has {', '.join(STATUSES)}"),
            (self.rate_limit >= 1 and self.rate_window_real_seconds > 0, "the rate limit must be above 0"),
            (self.delivery_concurrency >= 1, "at least one delivery at a time is needed"),
        ):
            if not is_right:
                raise OptionError(rule)
