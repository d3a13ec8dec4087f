"""The provider's webhook signature: ``sha256=`` and the hex HMAC-SHA256 of the raw body under the target's secret.

The timestamp header is not signed, so it proves nothing and is ignored. Only the HMAC decides, so its notation may
vary: hex in any case, with or without the prefix, several signatures separated by commas.
"""

import binascii
import hmac
from collections.abc import Sequence
from typing import NamedTuple

SIGNATURE_HEADER = "X-FormantAI-Signature"
MAX_SIGNATURES = 8
"""Signatures beyond this number in one header are ignored."""
_PREFIX = "sha256="
_PREFIX_BYTES = _PREFIX.encode()
_HEX_DIGITS = 64
_BLANKS = b" \t"


class Signed(NamedTuple):
    """A match: the index of the secret, and its digest of the body."""

    secret: int
    digest: bytes


def sign(body: bytes, secret: str) -> str:
    """The value of ``X-FormantAI-Signature`` for this body."""
    return _PREFIX + hmac.digest(secret.encode(), body, "sha256").hex()


def read_signatures(header: bytes) -> list[bytes]:
    """The 32-byte digests in a header value; anything else is skipped."""
    digests = []
    for item in header.split(b",", MAX_SIGNATURES)[:MAX_SIGNATURES]:
        text = item.strip(_BLANKS)
        if text[: len(_PREFIX)].lower() == _PREFIX_BYTES:
            text = text[len(_PREFIX) :].lstrip(_BLANKS)
        if len(text) == _HEX_DIGITS:
            try:
                digests.append(binascii.unhexlify(text))
            except binascii.Error:
                continue
    return digests


class SignatureVerifier:
    """Checks signatures against the live secrets of one target; several are live while a secret is rotated."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [secret.encode() for secret in secrets]

    def find_secret(self, body: bytes, header: bytes) -> Signed | None:
        """The secret that signed ``body``, or None when none did.

        ``header`` is the header's raw value, or several joined by commas. Every secret is compared in full, so the time
        does not reveal which secret, or which part of a digest, matched.
        """
        given = read_signatures(header)
        found = None
        for index, key in enumerate(self._keys):
            expected = hmac.digest(key, body, "sha256")
            for digest in given:
                if hmac.compare_digest(expected, digest):
                    found = Signed(index, expected)
        return found

    def sign(self, body: bytes, secret: int) -> Signed:
        """The signature of ``body`` under the secret with this index."""
        return Signed(secret, hmac.digest(self._keys[secret], body, "sha256"))

    def is_signed(self, body: bytes, signature: bytes) -> bool:
        """Whether any of the secrets produces this signature of ``body``; every one is compared in full."""
        matches = [hmac.compare_digest(hmac.digest(key, body, "sha256"), signature) for key in self._keys]
        return any(matches)
