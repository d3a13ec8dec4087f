"""What the provider did, counted: the other side's truth, to hold a receiver's figures against."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Journal:
    """Counts since the start. ``uploads`` are those accepted, by the file's SHA-256; so twice means called twice."""

    uploads: Counter[str] = field(default_factory=Counter)
    uploads_refused: int = 0
    dials: int = 0
    events: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    """attempted (requests that set out, or would have but for an outage), acknowledged (2xx), refused (4xx, never sent
    again), failed (to be sent again, or not), given_up (after the third), dropped, duplicated, delayed."""
    api: Counter[str] = field(default_factory=Counter)
    """Requests to the API with a known key: within_limit, and over_limit (429 by the limit itself, not as a fault)."""
    forged: Counter[str] = field(default_factory=Counter)
    """sent, and accepted: answered 2xx, which a receiver that checks signatures never does."""

    def describe(self) -> dict[str, Any]:
        deliveries = ("attempted", "acknowledged", "refused", "failed", "given_up", "dropped", "duplicated", "delayed")
        return {
            "uploads": dict(self.uploads),
            "uploads_refused": self.uploads_refused,
            "dials": self.dials,
            "events": self.events,
            "deliveries": {name: self.deliveries[name] for name in deliveries},
            "api": {name: self.api[name] for name in ("within_limit", "over_limit")},
            "forged": {name: self.forged[name] for name in ("sent", "accepted")},
        }
