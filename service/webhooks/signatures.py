"""Whether a webhook, or a body kept of one, is signed by a live secret of its target."""

import hashlib
import zlib
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

from service.errors import AuthenticationError, UnavailableError
from service.formant.conversations import TARGET as CONVERSATIONS
from service.formant.signature import SIGNATURE_HEADER
from service.formant.targets import Target

RETRY_AFTER_SECONDS = 5


class SignatureCheck:
    """Verifies webhooks, and counts in ``used`` which secret of which target signed them."""

    def __init__(self, used: MutableMapping[tuple[str, ...], int], *, max_body_bytes: int) -> None:
        self._used = used
        self._max_body_bytes = max_body_bytes

    def verify(self, target: Target, body: bytes, signature: bytes) -> bytes | None:
        """The signature, to be kept with the body; None where the target takes unsigned ones. Raises
        AuthenticationError."""
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
        self, target: Target, body: bytes, signature: bytes, encoding: bytes
    ) -> tuple[bytes, bytes | None]:
        """The content of a compressed body, and its signature: the sender's, or one under the same secret where the
        sender signed the compressed body. A body that cannot be decoded is returned as it is if it is signed; else
        UnavailableError asks for it again, since a right signature may be inside.
        """
        content = decode_content(body, encoding, self._max_body_bytes)
        verifier = target.verifier
        signed = verifier.find_secret(body, signature) if verifier else None
        if verifier and signed and content is not None:
            self._used[target.name, str(signed.secret + 1)] += 1
            return content, verifier.sign(content, signed.secret).digest
        if verifier and not signed and content is None:
            raise UnavailableError(
                "Content-Encoding: takes gzip or deflate within the limits, or a signature of the body as sent",
                retry_after=RETRY_AFTER_SECONDS,
            )
        read = body if content is None else content
        return read, self.verify(target, read, signature)


AUTOMATIC = 32 + zlib.MAX_WBITS  # zlib's or gzip's header
PLAIN_BYTES = 2**16
MOST_TIMES = 50


def decode_content(body: bytes, encoding: bytes, max_bytes: int) -> bytes | None:
    """The content of a body with this Content-Encoding; None for another encoding than gzip and deflate, for a body
    that is not in it, and for content that is over ``max_bytes`` or out of proportion to its body: an unsigned body
    must not cost much more than its own size.
    """
    match encoding.strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip" | b"x-gzip" | b"deflate":
            return _inflate(body, min(max_bytes, PLAIN_BYTES + MOST_TIMES * len(body)))
    return None


def _inflate(body: bytes, most_bytes: int) -> bytes | None:
    inflater = zlib.decompressobj(AUTOMATIC)
    try:
        content = inflater.decompress(body, most_bytes + 1)
    except zlib.error:
        return None
    is_whole = inflater.eof and not inflater.unused_data
    return content if is_whole and len(content) <= most_bytes else None


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
