"""The provider's rate limit: so many requests per window, in real time, for each key."""

import math
from collections.abc import Callable

from service.sandbox.clock import format_time


class Allowance:
    """One key's requests in the present window. A window begins with the first request after the last one's end."""

    def __init__(self, limit: int, window_seconds: float, real_time: Callable[[], float]) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._real_time = real_time
        self._remaining = limit
        self._ends_at = 0.0

    def take(self) -> bool:
        """Spends one request; False when none was left."""
        now = self._real_time()
        if now >= self._ends_at:
            self._remaining = self._limit
            self._ends_at = now + self._window_seconds
        if not self._remaining:
            return False
        self._remaining -= 1
        return True

    def headers(self) -> dict[str, str]:
        """``X-RateLimit-*`` as of the last request taken."""
        return {
            "X-RateLimit-Limit": str(self._limit),
            "X-RateLimit-Remaining": str(self._remaining),
            "X-RateLimit-Reset": format_time(self._ends_at),
        }

    def retry_after(self) -> str:
        """Whole seconds until the window ends, at least 1."""
        return str(max(1, math.ceil(self._ends_at - self._real_time())))
