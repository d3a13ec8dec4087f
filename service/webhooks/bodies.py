"""Raw bodies held against what was kept beside them: their digest, and the provider's signature."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.targets import Target


class Flaw(NamedTuple):
    """What is wrong with a body: what, as stored, as it should be. Nothing of the body itself is told."""

    what: str
    stored: str
    expected: str


class BodyCheck:
    """Checks bodies, and counts those whose signature could not be checked."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._targets = targets
        self.unsigned = 0
        """Webhooks that came unsigned, or before signatures were kept."""
        self.unchecked = 0
        """Signed ones of targets for which no secret is configured here."""

    def find_flaw(self, row: Any) -> Flaw | None:
        """The flaw in a row with ``digest``, ``target``, ``body`` and ``signature``; None for a body no longer kept."""
        if row["digest"] is None:
            return Flaw("event", "missing", "an event for this fact")
        body, signature = row["body"], row["signature"]
        if body is None:
            return None
        if hashlib.sha256(body).digest() != row["digest"]:
            return Flaw("body", "differs from its digest", row["digest"].hex()[:16])
        return None if row["target"] == CONVERSATIONS else self._check_signature(row["target"], body, signature)

    def _check_signature(self, name: str, body: bytes, signature: bytes | None) -> Flaw | None:
        target = self._targets.get(name)
        if signature is None:
            self.unsigned += 1
        elif target is None or target.verifier is None:
            self.unchecked += 1
        elif not target.verifier.is_signed(body, signature):
            return Flaw(
                "signature",
                f"of no secret of target {name}",
                "one of its secrets: if it was retired since, add it for this run (FORMANT_WEBHOOK_SECRET=new,old)",
            )
        return None
