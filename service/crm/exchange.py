"""One HTTP exchange, its errors and its retries.

A request is repeated after 408, 423, 425, 429, 477, 5xx, any 4xx with ``Retry-After`` (RFC 9110) or a lost answer:
when the other side asks for it, else with exponential back-off. Any other refusal is final.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec
import stamina
import structlog

from service.certificates import describe_failure
from service.errors import OutcomesError
from service.http_dates import read_retry_after


class SyncError(OutcomesError):
    """The job cannot continue and repeating would not help; the message says what to do."""


class BusyError(OutcomesError):
    """No usable answer, or one that asks for a retry after ``wait_seconds`` (None: not given). The same request may be
    repeated."""

    def __init__(self, message: str, *, status: int = 0, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.wait_seconds = wait_seconds


class RefusedError(OutcomesError):
    """The target refused a batch as a whole, or did not say which of its records failed: it can be split."""


logger = structlog.get_logger()

ATTEMPTS = 8
LONG_WAIT_SECONDS = 1.0  # below that a wait is no warning
MAX_BACKOFF_SECONDS = 60.0
MAX_WAIT_SECONDS = 300.0  # a job that is not patient stops rather than wait longer
MAX_PATIENT_WAIT_SECONDS = 3600.0  # a patient job asks again after this
MAX_ANSWER_BYTES = 64 * 2**20
MAX_MESSAGE_CHARACTERS = 500
_TEMPORARY = frozenset({408, 423, 425, 429, 477})  # 477: HubSpot is moving the account

_Result = TypeVar("_Result")


class CrmAnswer(NamedTuple):
    """A complete answer: 2xx or 4xx."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(
    http: httpx.AsyncClient,
    who: str,
    method: str,
    url: str,
    *,
    read_wait: Callable[[CrmAnswer], float | None] = lambda answer: read_retry_after(answer.headers),
    **request: Any,
) -> CrmAnswer:
    """Sends a request once. ``who`` is the other side's name in messages.

    Raises BusyError when the request may be repeated, and SyncError for a redirect: it would send the key elsewhere.
    """
    try:
        async with http.stream(method, url, **request) as response:
            answer = CrmAnswer(response.status_code, response.headers, await _read_body(response, who))
    except httpx.HTTPError as error:
        raise BusyError(
            f"{who} did not answer ({describe_failure(error)}): check that it runs, and its address"
        ) from error
    if _is_temporary(answer):
        raise BusyError(
            f"{who} answered {answer.status}{read_message(answer.body)}",
            status=answer.status,
            wait_seconds=read_wait(answer),
        )
    if 300 <= answer.status < 400:
        raise SyncError(f"{who} redirects ({answer.status}), which is not followed: set the final address")
    return answer


def _is_temporary(answer: CrmAnswer) -> bool:
    """Whether the same request may succeed later."""
    return (
        answer.status in _TEMPORARY
        or answer.status >= 500
        or (400 <= answer.status < 500 and "retry-after" in answer.headers)
    )


async def _read_body(response: httpx.Response, who: str) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise SyncError(f"{who} answered with more than {MAX_ANSWER_BYTES // 2**20} MB")
    return bytes(body)


def read_message(body: bytes) -> str:
    """The message in an error's body, after ": "; "" without one."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    while isinstance(content, dict):
        content = content.get("message") or content.get("error")
    return f": {content[:MAX_MESSAGE_CHARACTERS]}" if isinstance(content, str) else ""


async def repeat(call: Callable[[], Awaitable[_Result]], operation: str, *, is_patient: bool) -> _Result:
    """The result of ``call``, repeated while it raises BusyError. ``is_patient``: without a limit.

    Raises SyncError when the attempts are used up.
    """

    def wait_before_repeating(error: Exception) -> bool | float:
        if not isinstance(error, BusyError):
            return False
        if error.wait_seconds is None:
            return True
        return _bound(error.wait_seconds) if is_patient or error.wait_seconds <= MAX_WAIT_SECONDS else False

    try:
        async for attempt in stamina.retry_context(
            on=wait_before_repeating,
            attempts=None if is_patient else ATTEMPTS,
            timeout=None,
            wait_max=MAX_BACKOFF_SECONDS,
        ):
            with attempt:
                try:
                    return await call()
                except BusyError as error:
                    delay = attempt.next_wait if error.wait_seconds is None else _bound(error.wait_seconds)
                    log = logger.warning if delay >= LONG_WAIT_SECONDS else logger.info
                    log(
                        "crm_sync_waiting", operation=operation, attempt=attempt.num, status=error.status,
                        wait_seconds=round(delay, 1),
                    )  # fmt: skip
                    raise
    except BusyError as error:
        wait = "" if error.wait_seconds is None else f", and asks to wait for {error.wait_seconds:.0f} s"
        raise SyncError(
            f"{error}{wait}. Everything acknowledged is in the CRM; run it again to continue from there"
        ) from error
    raise AssertionError("unreachable: the last attempt raises")


def _bound(seconds: float) -> float:
    return min(seconds, MAX_PATIENT_WAIT_SECONDS)
