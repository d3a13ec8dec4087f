"""The transaction of a sign-in: what must come back unchanged from the provider, to the browser that began it.

Nothing is stored. State, nonce and the code verifier follow from a random id by HMAC, with a key that follows from the
client's secret and that all replicas therefore share. The browser holds the id, the end and the page to go to, signed.
"""

import base64
import hmac
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

LIFETIME_SECONDS = 600
ID_BYTES = 24
MAX_TEXT_CHARACTERS = 3500
_PARTS = 4


class Transaction(NamedTuple):
    """``text`` is what the browser holds."""

    text: str
    next_path: str
    state: str
    nonce: str
    verifier: str

    def has_state(self, state: str) -> bool:
        return hmac.compare_digest(self.state.encode(), state.encode())


class Transactions:
    """Makes and reads transactions; ``secret`` is the client's."""

    def __init__(self, secret: str, now: Callable[[], datetime]) -> None:
        self._key = hmac.digest(secret.encode(), b"outcomes: transactions of sign-in", "sha256")
        self._now = now

    def begin(self, next_path: str) -> Transaction:
        transaction_id = secrets.token_urlsafe(ID_BYTES)
        ends_at = int(self._now().timestamp()) + LIFETIME_SECONDS
        signed = f"{transaction_id}.{ends_at}.{_encode(next_path.encode())}"
        return self._derive(f"{signed}.{self._digest('text', signed)}", transaction_id, next_path)

    def read(self, text: str) -> Transaction | None:
        """The transaction that a browser brought back; None when it is not ours, or over."""
        parts = text.split(".")
        if len(text) > MAX_TEXT_CHARACTERS or len(parts) != _PARTS:
            return None
        transaction_id, ends_at, next_path, signature = parts
        if not hmac.compare_digest(self._digest("text", text.rpartition(".")[0]).encode(), signature.encode()):
            return None
        if int(ends_at) <= self._now().timestamp():
            return None
        return self._derive(text, transaction_id, base64.urlsafe_b64decode(f"{next_path}==").decode())

    def _derive(self, text: str, transaction_id: str, next_path: str) -> Transaction:
        state, nonce, verifier = (self._digest(name, transaction_id) for name in ("state", "nonce", "verifier"))
        return Transaction(text, next_path, state, nonce, verifier)

    def _digest(self, purpose: str, text: str) -> str:
        return _encode(hmac.digest(self._key, f"{purpose}:{text}".encode(), "sha256"))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
