"""What can go wrong between the feed and a CRM, and what follows from it: repeat, split, or stop."""

from service.errors import OutcomesError


class SyncError(OutcomesError):
    """The job cannot go on, and repeating would not help; the message says what to do."""


class BusyError(OutcomesError):
    """No usable answer, or one that asks to come again. ``wait_seconds`` is how long the other side asked to wait for;
    None: it did not say. The same request may be repeated."""

    def __init__(self, message: str, *, status: int = 0, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.wait_seconds = wait_seconds


class RefusedError(OutcomesError):
    """The target refused a batch as a whole, or did not say which of its records failed: it can be split."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reason = message
