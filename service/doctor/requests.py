"""HTTP requests of the checks, and what their answers say about DNS, TLS and certificates."""

import json
import ssl
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx

from service.certificates import find_tls_failure
from service.counts import count
from service.doctor.findings import Finding, Thresholds, problem, warning

MAX_BYTES = 2**20


class HttpAnswer(NamedTuple):
    """An answer; ``expires_at`` is the end of the certificate, None without TLS."""

    status: int
    headers: httpx.Headers
    body: bytes
    seconds: float
    expires_at: datetime | None

    @property
    def content(self) -> Any:
        """The body as JSON; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def error_message(self) -> str:
        """The message of an error in our shape; "" for any other body."""
        content = self.content
        error = content.get("error") if isinstance(content, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        return message if isinstance(message, str) else ""


async def ask(http: httpx.AsyncClient, method: str, url: str, **given: Any) -> tuple[HttpAnswer, httpx.Response]:
    """Sends one request, and reads about 1 MB of the answer at most."""
    began = time.perf_counter()
    async with http.stream(method, url, **given) as response:
        expires_at = _read_expiry(response)
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                break
    return HttpAnswer(response.status_code, response.headers, body, time.perf_counter() - began, expires_at), response


def explain_no_answer(whose: str, error: httpx.HTTPError, remedy: str) -> Finding:
    """Why there was no answer, without the address, which may contain a password."""
    if (failure := find_tls_failure(error)) is not None:
        return problem(f"{whose} cannot be used: {failure.reason}", failure.remedy)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and "Name or service not known" in str(cause):
            return problem(f"{whose}: the name cannot be resolved", "Check the name, and this machine's DNS")
        cause = cause.__cause__ or cause.__context__
    return problem(f"{whose} does not answer ({type(error).__name__})", remedy)


def judge_expiry(whose: str, answer: HttpAnswer, now: datetime, thresholds: Thresholds) -> list[Finding]:
    """A warning when the certificate expires soon."""
    if answer.expires_at is None:
        return []
    days = (answer.expires_at - now).total_seconds() / 86_400
    if days > thresholds.certificate_days:
        return []
    return [warning(f"{whose}'s certificate expires in {count(round(days), 'day')}", "Renew it")]


def describe_expiry(answer: HttpAnswer) -> str:
    """The end of a sentence, on the certificate's expiry."""
    return f"; its certificate is valid until {answer.expires_at:%Y-%m-%d}" if answer.expires_at else ""


def _read_expiry(response: httpx.Response) -> datetime | None:
    stream = response.extensions.get("network_stream")
    secured = stream.get_extra_info("ssl_object") if stream is not None else None
    ends = (secured.getpeercert() or {}).get("notAfter") if secured is not None else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if isinstance(ends, str) else None
