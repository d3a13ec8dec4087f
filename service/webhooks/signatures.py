"""Checks that a webhook, or its stored body, is signed with a live secret of its target."""

import hashlib
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

from service.errors import AuthenticationError, UnavailableError
from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.signature import SIGNATURE_HEADER
from service.formant.targets import Target

RETRY_AFTER_SECONDS = 5


class SignatureCheck:
    """Verifies webhooks. ``used`` counts webhooks by target and secret."""

    def __init__(self, used: MutableMapping[tuple[str, ...], int]) -> None:
        self._used = used

    def verify(self, target: Target, body: bytes, signature: bytes) -> bytes | None:
        """The signature to store with the body; None where the target accepts unsigned webhooks. Raises
        AuthenticationError when no live secret of the target signed ``body``."""
        if target.verifier is None:
            return None
        signed = target.verifier.find_secret(body, signature)
        if signed is None:
            raise AuthenticationError(
                f"{SIGNATURE_HEADER} is missing or was not made with a secret of this target: compare "
                "FORMANT_WEBHOOK_SECRET with the secret in the provider's dashboard"
            )
        self._used[target.name, str(signed.secret + 1)] += 1
        return signed.digest

    def verify_encoded(
        self, target: Target, body: bytes, signature: bytes, content: bytes | None
    ) -> tuple[bytes, bytes | None]:
        """The content of an encoded body and the content's signature. Where the sender signed the encoded body, the
        content is signed with the same secret.

        A body that cannot be decoded (``content`` is None) is returned unchanged if it is signed. Otherwise raises
        UnavailableError, so that the sender tries again, since the content may carry a valid signature.
        """
        verifier = target.verifier
        signed = verifier.find_secret(body, signature) if verifier else None
        if verifier and signed and content is not None:
            self._used[target.name, str(signed.secret + 1)] += 1
            return content, verifier.sign(content, signed.secret).digest
        if verifier and not signed and content is None:
            raise UnavailableError(
                "Content-Encoding: takes gzip and deflate within OUTCOMES_MAX_BODY_BYTES, or a signature of the body "
                "as it was sent",
                retry_after=RETRY_AFTER_SECONDS,
            )
        read = body if content is None else content
        return read, self.verify(target, read, signature)


def sign_content(target: Target, content: bytes, body: bytes, signature: bytes | None) -> bytes | None:
    """The signature of the content of a stored encoded body, made with the secret that signed the body; None where that
    secret is not known."""
    if target.verifier is None or signature is None:
        return None
    signed = target.verifier.find_secret(body, signature.hex().encode())
    return target.verifier.sign(content, signed.secret).digest if signed else None


class Flaw(NamedTuple):
    """What is wrong with a body: its kind, the stored and the expected value. Contains nothing of the body itself."""

    what: str
    stored: str
    expected: str


class BodyCheck:
    """Checks stored bodies and counts those whose signature cannot be checked."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._targets = targets
        self.unsigned = 0
        """Webhooks that arrived unsigned, or before signatures were stored."""
        self.unchecked = 0
        """Signed webhooks of targets without a configured secret."""

    def find_flaw(self, row: Any) -> Flaw | None:
        """The flaw in a row with ``digest``, ``target``, ``body`` and ``signature``. None without a flaw, or when the
        body is no longer kept."""
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
                f"not made with a secret of target {name}",
                "one of its secrets: if it was retired since, add it for this run (FORMANT_WEBHOOK_SECRET=new,old)",
            )
        return None
