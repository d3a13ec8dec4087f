"""The provider: whether it answers and accepts our key, its clock, and how many calls are left."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime

import httpx

from service.doctor.connection import judge_clock
from service.doctor.findings import (
    Finding,
    Thresholds,
    explain,
    ok,
    problem,
    show_name,
    show_seconds,
    unchecked,
    warning,
)
from service.doctor.requests import HttpAnswer, ask, describe_expiry, explain_no_answer, judge_expiry
from service.errors import ConfigurationError, ProviderError
from service.formant.client import open_http
from service.http_dates import read_date
from service.reconciliation.budget import Budget, name_account
from service.settings import Settings
from service.store.database import Database

WAIT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
UNREACHABLE = "Check FORMANT_BASE_URL, the network (firewall, proxy), and the provider's status page"


async def check_provider(
    settings: Settings, database: Database | None, now: Callable[[], datetime], thresholds: Thresholds
) -> list[Finding]:
    """Sends one cheap call, within the replicas' shared budget if the database is writable."""
    if not settings.formant_api_key:
        return [unchecked("Not called: there is no FORMANT_API_KEY")]
    account = name_account(settings.formant_base_url, settings.formant_api_key)
    budget = Budget(database, account, reserved=0.0, longest_wait_seconds=WAIT_SECONDS) if database else None
    try:
        async with (
            open_http(settings.formant_base_url, settings.formant_api_key) as http,
            budget.spend() if budget else nullcontext(lambda _: None) as note,
        ):
            before = now()
            answer, response = await ask(http, "GET", "/v1/batch-calls", params={"limit": 1}, timeout=ANSWER_SECONDS)
            note(response)
            after = now()
    except ProviderError as error:
        message = "The provider is not called for now: its limit is spent, or it has failed five times in a row"
        wait = error.headers.get("retry-after", "a few")
        return [warning(message, f"Wait {wait} s; see the alarm provider_unreachable")]
    except ConfigurationError as error:
        return [explain(error)]
    except httpx.HTTPError as error:
        return [explain_no_answer("The provider", error, UNREACHABLE)]
    findings = [_judge(answer), *judge_expiry("The provider", answer, after, thresholds)]
    if answer.status < 400:
        findings.append(_describe_limits(answer))
    if (date := read_date(answer.headers)) is not None:
        findings.append(judge_clock("The provider's clock", date, before, after, 1.0, thresholds))
    return findings


def _judge(answer: HttpAnswer) -> Finding:
    if answer.status in {401, 403}:
        remedy = "Compare FORMANT_API_KEY with the provider's dashboard"
        return problem(f"The provider refuses our key ({answer.status})", remedy)
    if 300 <= answer.status < 400:
        remedy = "Set FORMANT_BASE_URL to its target: redirects are not followed, they would carry our key along"
        return problem(f"The provider's address redirects ({answer.status})", remedy)
    if answer.status == 429:
        return warning("The provider's limit is used up (429)", "Wait; find out who else calls with this key")
    if answer.status != 200:
        return problem(f"The provider answers {answer.status}", UNREACHABLE)
    content = answer.content
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        return problem("What answers there is not the provider's API", "Check FORMANT_BASE_URL")
    took = show_seconds(answer.seconds)
    return ok(f"The provider answers within {took}, and accepts our key{describe_expiry(answer)}")


def _describe_limits(answer: HttpAnswer) -> Finding:
    limits = {name: show_name(answer.headers.get(f"x-ratelimit-{name}")) for name in ("remaining", "limit", "reset")}
    if not limits["limit"]:
        message = "The provider sends no X-RateLimit-* headers: the budget assumes 50 calls a minute"
        return warning(message, "Check whether a proxy in between removes them")
    return ok(f"{limits['remaining']} of {limits['limit']} calls are left until {limits['reset'] or 'an unknown time'}")
