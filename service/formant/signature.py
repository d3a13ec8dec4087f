"""The provider's webhook signature: ``sha256=`` and the hex HMAC-SHA256 of the raw body under the target's secret.

The timestamp header is not part of what is signed, so it proves nothing and is not looked at.
"""

import hmac
from collections.abc import Sequence

SIGNATURE_HEADER = "X-FormantAI-Signature"
_PREFIX = "sha256="


def sign(body: bytes, secret: str) -> str:
    """The value of ``X-FormantAI-Signature`` for this body."""
    return _PREFIX + hmac.digest(secret.encode(), body, "sha256").hex()


def read_signature(header: bytes) -> bytes:
    """The 32 bytes that a verified header's value stands for."""
    return bytes.fromhex(header[len(_PREFIX) :].decode())


class Verifier:
    """Checks signatures against the live secrets of one target; several are live while a secret is rotated."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [secret.encode() for secret in secrets]

    def find_secret(self, body: bytes, signature: bytes) -> int | None:
        """The index of the secret that signed ``body``, or None when none did.

        ``signature`` is the header's raw value. Every secret is tried in full, so the time taken does not tell which
        one, or how much of one, was right.
        """
        found = None
        for index, key in enumerate(self._keys):
            expected = _PREFIX + hmac.digest(key, body, "sha256").hex()
            if hmac.compare_digest(expected.encode(), signature):
                found = index
        return found

    def is_signed(self, body: bytes, signature: bytes) -> bool:
        """Whether any of the secrets gives this signature of ``body``; every one is tried in full."""
        matches = [hmac.compare_digest(hmac.digest(key, body, "sha256"), signature) for key in self._keys]
        return any(matches)
