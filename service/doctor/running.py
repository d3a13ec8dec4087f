"""The running service: does it answer, can it commit, is it this version, does it keep up."""

from importlib.metadata import version

import httpx

from service.doctor.findings import Finding, ok, problem, show_name, show_seconds, warning
from service.doctor.http import ask, explain_no_answer
from service.doctor.limits import Thresholds

TIMEOUT_SECONDS = 5.0
BACKLOG = "outcomes_backlog_events"
NOT_THERE = "Start it (outcomes serve), or name where it answers with --url; --no-service before a first start"


async def check_service(url: str, thresholds: Thresholds) -> list[Finding]:
    """Asks what everybody may ask: health, readiness, version and metrics."""
    # Not by a proxy of the environment's: it is this very machine that is asked, or one beside it.
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
        try:
            alive, _ = await ask(http, "GET", "/healthz")
            if alive.status != 200 or alive.content != {"status": "ok"}:
                return [problem(f"What answers there is not this service ({alive.status})", NOT_THERE)]
            ready, _ = await ask(http, "GET", "/readyz")
            document, _ = await ask(http, "GET", "/openapi.json")
            metrics, _ = await ask(http, "GET", "/metrics")
        except httpx.HTTPError as error:
            return [explain_no_answer("The service", error, NOT_THERE)]
    findings = [ok(f"Alive, answers within {show_seconds(alive.seconds)}")]
    if ready.status == 200:
        findings.append(ok("Ready: it commits"))
    else:
        remedy = "See the database's findings above; RUNBOOK: Overload"
        findings.append(problem(f"Not ready ({ready.status}): it cannot commit, and refuses webhooks", remedy))
    return [
        *findings,
        _judge_version(document.content),
        _judge_backlog(metrics.body.decode(errors="replace"), thresholds),
    ]


def _judge_version(document: object) -> Finding:
    info = document.get("info") if isinstance(document, dict) else None
    theirs = show_name(str(info.get("version"))) if isinstance(info, dict) else "none that it tells"
    ours = version("formant-outcomes")
    if theirs == ours:
        return ok(f"Its version is ours, {ours}")
    remedy = "Finish the upgrade, or run the doctor of its version: this one may judge it wrongly"
    return warning(f"Its version is {theirs}, the doctor's {ours}", remedy)


def _judge_backlog(exposition: str, thresholds: Thresholds) -> Finding:
    values = [line.split()[1] for line in exposition.splitlines() if line.startswith(f"{BACKLOG} ")]
    if not values:
        return warning("It exposes no backlog", "Run the doctor of the service's version")
    waiting = float(values[0])
    if waiting > thresholds.backlog_events:
        return warning(f"{waiting:,.0f} events wait for their commit", "RUNBOOK: Overload")
    return ok(f"{waiting:,.0f} events wait for their commit")
