"""The running service: whether it answers, commits, is this version, and keeps up."""

from importlib.metadata import version

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from service.counts import count
from service.doctor.findings import Finding, Thresholds, ok, problem, show_name, show_seconds, warning
from service.doctor.requests import ask, explain_no_answer

TIMEOUT_SECONDS = 5.0
BACKLOG = "outcomes_backlog_events"
VERIFIED = "outcomes_webhook_secret_used_total"
ANSWERED = "outcomes_webhooks_total"
NOT_THERE = "Start it (outcomes serve), or pass its address as --url; --no-service before a first start"


async def check_service(url: str, thresholds: Thresholds) -> list[Finding]:
    """Requests health, readiness, version and metrics, which need no key."""
    # Not through a proxy of the environment: the service is on this machine or in its network.
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        try:
            alive, _ = await ask(http, "GET", "/healthz")
            if alive.status != 200 or not _is_ok(alive.content):
                return [problem(f"Another program answers there ({alive.status})", NOT_THERE)]
            ready, _ = await ask(http, "GET", "/readyz")
            document, _ = await ask(http, "GET", "/openapi.json")
            metrics, _ = await ask(http, "GET", "/metrics")
        except httpx.HTTPError as error:
            return [explain_no_answer("The service", error, NOT_THERE)]
    findings = [ok(f"Alive, answers within {show_seconds(alive.seconds)}")]
    if ready.status == 200:
        findings.append(ok("Ready: it commits"))
    else:
        remedy = "See the database's findings above; Overload in docs/operate/runbook.md"
        findings.append(problem(f"Not ready ({ready.status}): it cannot commit, and refuses webhooks", remedy))
    samples = _read_samples(metrics.body.decode(errors="replace"))
    return [*findings, _judge_version(document.content), _judge_backlog(samples, thresholds), _count_verified(samples)]


def _is_ok(content: object) -> bool:
    return isinstance(content, dict) and content.get("status") == "ok"


def _judge_version(document: object) -> Finding:
    info = document.get("info") if isinstance(document, dict) else None
    theirs = show_name(str(info.get("version"))) if isinstance(info, dict) else "unknown"
    ours = version("formant-outcomes")
    if theirs == ours:
        return ok(f"Its version is the doctor's, {ours}")
    remedy = "Finish the upgrade, or run the doctor of its version"
    return warning(f"Its version is {theirs}, the doctor's {ours}", remedy)


def _judge_backlog(samples: list[Sample], thresholds: Thresholds) -> Finding:
    values = [sample.value for sample in samples if sample.name == BACKLOG]
    if not values:
        return warning("It exposes no backlog", "Run the doctor of the service's version")
    message = f"Waiting for their commit: {count(values[0], 'event')}"
    if values[0] > thresholds.backlog_events:
        return warning(message, "See Overload in docs/operate/runbook.md")
    return ok(message)


def _count_verified(samples: list[Sample]) -> Finding:
    """The secrets that verified webhooks since it started: only a genuine webhook proves that a secret is right."""
    verified = [
        f"{sample.value:,.0f} by secret {show_name(sample.labels['secret'])} of {show_name(sample.labels['target'])}"
        for sample in samples
        if sample.name == VERIFIED
    ]
    refused = sum(
        sample.value
        for sample in samples
        if sample.name == ANSWERED and sample.labels.get("answer") == "authentication_error"
    )
    shown = ", ".join(verified) or "none"
    return ok(f"Webhooks since it started: verified {shown}; {refused:,.0f} refused for their signature")


def _read_samples(exposition: str) -> list[Sample]:
    try:
        return [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    except ValueError:
        return []
