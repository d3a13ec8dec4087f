"""One HTTP exchange, and when it is worth another try: after 408, 423, 425, 429, 477, 5xx, any 4xx with ``Retry-After``
(RFC 9110) or a lost answer; as late as the other side asks for, else with exponential back-off. Any other refusal is
final.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec
import stamina
import structlog

from service.errors import OutcomesError
from service.http_dates import read_retry_after


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


logger = structlog.get_logger()

ATTEMPTS = 8
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 300.0  # what a job that is to end lets itself be asked to wait for
LONGEST_PATIENT_WAIT_SECONDS = 3600.0  # after which one that follows asks again
LARGEST_ANSWER_BYTES = 64 * 2**20
MESSAGE_CHARACTERS = 500
_PASSING = frozenset({408, 423, 425, 429, 477})  # 477: HubSpot is moving the account

_Given = TypeVar("_Given")


class Answer(NamedTuple):
    """What came back: 2xx or 4xx, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(
    http: httpx.AsyncClient,
    who: str,
    method: str,
    url: str,
    *,
    read_wait: Callable[[Answer], float | None] = lambda answer: read_retry_after(answer.headers),
    **request: Any,
) -> Answer:
    """Sends a request once. ``who`` is the other side's name in messages.

    Raises BusyError for what may pass, and SyncError for a redirect: it would carry the key elsewhere.
    """
    try:
        async with http.stream(method, url, **request) as response:
            answer = Answer(response.status_code, response.headers, await _read_body(response, who))
    except httpx.HTTPError as error:
        raise BusyError(f"{who} did not answer ({type(error).__name__})") from error
    if _may_pass(answer):
        raise BusyError(
            f"{who} answered {answer.status}{read_message(answer.body)}",
            status=answer.status,
            wait_seconds=read_wait(answer),
        )
    if 300 <= answer.status < 400:
        raise SyncError(f"{who} redirects elsewhere ({answer.status}), which is not followed: set its final address")
    return answer


def _may_pass(answer: Answer) -> bool:
    """Whether the same request may be taken later: then the answer says nothing against the records in it."""
    return (
        answer.status in _PASSING
        or answer.status >= 500
        or (400 <= answer.status < 500 and "retry-after" in answer.headers)
    )


async def _read_body(response: httpx.Response, who: str) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > LARGEST_ANSWER_BYTES:
            raise SyncError(f"{who} answered with more than {LARGEST_ANSWER_BYTES // 2**20} MB")
    return bytes(body)


def read_message(body: bytes) -> str:
    """The message in an error's body, after a colon; "" without one."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    while isinstance(content, dict):
        content = content.get("message") or content.get("error")
    return f": {content[:MESSAGE_CHARACTERS]}" if isinstance(content, str) else ""


async def repeat(call: Callable[[], Awaitable[_Given]], operation: str, *, is_patient: bool) -> _Given:
    """What ``call`` gives, tried again while its failure may pass. ``is_patient``: for as long as it takes.

    Raises SyncError when that has not helped.
    """

    def wait_before_repeating(error: Exception) -> bool | float:
        if not isinstance(error, BusyError):
            return False
        if error.wait_seconds is None:
            return True
        return _bound(error.wait_seconds) if is_patient or error.wait_seconds <= LONGEST_WAIT_SECONDS else False

    try:
        async for attempt in stamina.retry_context(
            on=wait_before_repeating,
            attempts=None if is_patient else ATTEMPTS,
            timeout=None,
            wait_max=LONGEST_BACKOFF_SECONDS,
        ):
            with attempt:
                try:
                    return await call()
                except BusyError as error:
                    wait = attempt.next_wait if error.wait_seconds is None else _bound(error.wait_seconds)
                    logger.warning(
                        "crm_sync_waiting", operation=operation, attempt=attempt.num, status=error.status,
                        wait_seconds=round(wait, 1),
                    )  # fmt: skip
                    raise
    except BusyError as error:
        waits = "" if error.wait_seconds is None else f", and asks to wait for {error.wait_seconds:.0f} s"
        raise SyncError(
            f"{error}{waits}. What was acknowledged is in the CRM; run it again to go on from there"
        ) from error
    raise AssertionError("unreachable: the last attempt raises")


def _bound(seconds: float) -> float:
    return min(seconds, LONGEST_PATIENT_WAIT_SECONDS)
