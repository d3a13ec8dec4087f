"""Webhooks: whether the public address leads to this service, how fast, and when the last genuine webhook arrived.

A signed body is always stored, so the probes are a GET and a POST with a wrong signature. The service refuses them in
its own words, which proves that DNS, TLS, proxy, path and service are right. Only a genuine webhook proves the secret.
"""

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from service.doctor.configuration import LOOPBACK
from service.doctor.findings import Finding, Thresholds, judge, ok, problem, show_name, show_seconds, unchecked, warning
from service.doctor.requests import HttpAnswer, ask, describe_expiry, explain_no_answer, judge_expiry
from service.errors import ConfigurationError
from service.formant.signature import SIGNATURE_HEADER
from service.formant.targets import DEFAULT_TARGET, Target, load_targets
from service.settings import Settings
from service.store.database import Database

PATH = "/webhooks/formant"
SAMPLED = 200
WRONG = f"sha256={'0' * 64}"
ONLY_POST = "Webhooks are sent by POST"
NOT_SIGNED = f"{SIGNATURE_HEADER} is missing or was not made"
PATH_CHECK = "Check each hop: DNS, TLS, the proxy's route for /webhooks/formant (deploy/nginx.conf), the service"


async def check_public_address(
    url: str, settings: Settings, now: Callable[[], datetime], thresholds: Thresholds
) -> list[Finding]:
    """Whether requests to the public address arrive at this service."""
    address = urlsplit(url)
    if PATH not in address.path:
        remedy = f"Pass the whole address: https://…{PATH}, with /TARGET for other targets"
        return [problem(f"The address does not lead to {PATH}", remedy)]
    findings = []
    if address.scheme != "https" and address.hostname not in LOOPBACK:
        message = "Webhooks come by http: what people say and their phone numbers are sent unencrypted"
        findings.append(warning(message, "Get a certificate, and give the provider the https:// address"))
    async with httpx.AsyncClient(timeout=thresholds.webhook_seconds[1], follow_redirects=False) as http:
        try:
            findings += await _probe(http, url, _is_verified(address.path, settings), now, thresholds)
        except httpx.HTTPError as error:
            findings.append(explain_no_answer("The public address", error, PATH_CHECK))
    return findings


async def _probe(
    http: httpx.AsyncClient, url: str, is_verified: bool, now: Callable[[], datetime], thresholds: Thresholds
) -> list[Finding]:
    asked, _ = await ask(http, "GET", url)
    if asked.status != 405 or asked.error_message != ONLY_POST:
        return [_explain_unexpected(asked, "GET")]
    expiry = judge_expiry("The public address", asked, now(), thresholds)
    if not is_verified:
        message = "The service is there. No POST was sent: the service may accept unsigned webhooks and store it"
        return [unchecked(message, "Configure the target's secret here too"), *expiry, _judge_time(asked, thresholds)]
    posted, _ = await ask(http, "POST", url, content=b"{}", headers={SIGNATURE_HEADER: WRONG})
    if posted.status == 204:
        message = "A webhook with a wrong signature was accepted: anyone may post"
        return [problem(message, "Set FORMANT_WEBHOOK_SECRET there; the probe, {}, is in quarantine")]
    if posted.status != 401 or not posted.error_message.startswith(NOT_SIGNED):
        return [_explain_unexpected(posted, "POST")]
    return [*expiry, _judge_time(posted, thresholds)]


async def check_last_webhooks(database: Database, settings: Settings) -> list[Finding]:
    """When each target's last genuine webhook was verified and stored."""
    clock = await database.queries.get_clock(database.pool)
    rows = database.queries.list_last_webhooks(database.pool, sampled=SAMPLED)
    last = {row["target"]: row["received_at"] async for row in rows}
    findings = [
        ok(f"{show_name(target)}: the last webhook was stored {show_seconds((clock['now'] - at).total_seconds())} ago")
        for target, at in last.items()
    ]
    for name in sorted(_load_targets(settings).keys() - last.keys()):
        message = f"{name}: no webhook among the latest {SAMPLED}: its secret is unproven"
        findings.append(unchecked(message, "Make one test call by an agent that reports there"))
    return findings or [unchecked("No webhook has been stored yet", "Make one test call")]


def _is_verified(path: str, settings: Settings) -> bool:
    """Whether unsigned bodies are refused there, by the settings known here."""
    name = path.partition(PATH)[2].strip("/") or DEFAULT_TARGET
    targets = _load_targets(settings)
    return name in targets and targets[name].verifier is not None


def _load_targets(settings: Settings) -> dict[str, Target]:
    """The configured targets; none where the configuration is invalid, which another check reports."""
    try:
        return load_targets(settings.webhook_secrets, allow_unsigned=True, path=settings.targets_file)
    except ConfigurationError:
        return {}


def _explain_unexpected(answer: HttpAnswer, method: str) -> Finding:
    what = f"{method} was answered {answer.status}"
    if 300 <= answer.status < 400:
        remedy = "Give the provider the address that it leads to: webhooks do not follow redirects"
        return problem(f"{what}: a redirect", remedy)
    if answer.status == 404 and "webhook target" in answer.error_message:
        return problem(f"{what}: the service has no such target", "Correct the address, or OUTCOMES_TARGETS_FILE there")
    if answer.error_message:
        return problem(f"{what}, by another service", PATH_CHECK)
    if answer.status in {502, 503, 504}:
        return problem(f"{what} by a proxy: the service behind it does not answer", PATH_CHECK)
    return problem(f"{what}, but not by this service", PATH_CHECK)


def _judge_time(answer: HttpAnswer, thresholds: Thresholds) -> Finding:
    message = f"Arrives and is refused as expected, within {show_seconds(answer.seconds)}{describe_expiry(answer)}"
    remedy = "The provider gives up after 10 s: check the network path, and `outcomes_commit_seconds`"
    return judge(answer.seconds, thresholds.webhook_seconds, message, remedy)
