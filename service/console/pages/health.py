"""Health: what is wrong and what to do, and what the service knows about itself."""

from typing import Any

from starlette.responses import Response

from service.console.http import Page
from service.console.visit import Visit

PATH = "/console/health"
LEVELS = ("problem", "warning", "unchecked", "ok")
PLACES = {
    "signatures_rejected": ("See the webhooks of the last hour", f"{PATH}/webhooks"),
    "webhooks_silent": ("See the webhooks of the last hour", f"{PATH}/webhooks"),
    "webhooks_missing": ("See the webhooks of the last hour", f"{PATH}/webhooks"),
    "provider_unreachable": ("See the provider's budget", f"{PATH}/provider"),
    "quarantine_not_empty": ("Look at the quarantine", f"{PATH}/quarantine"),
    "unattributed_events": ("Look at these events", f"{PATH}/unattributed"),
    "feed_consumer_lagging": ("See the consumers", "/console/connections"),
}
"""Where each alarm is looked into."""
ANSWERS = {
    "stored": ("Stored", "Committed and answered with 204.", "good"),
    "authentication_error": (
        "Wrong signature",
        "Answered with 401, and not sent again. Compare the target's secret at the provider with "
        "FORMANT_WEBHOOK_SECRET.",
        "bad",
    ),
    "not_found": ("No such target", "Answered with 404. Compare the path at the provider with the targets.", "bad"),
    "invalid_request": ("Not a webhook", "Not sent by POST, or not readable as a request.", "plain"),
    "too_large": ("Too large", "Answered with 413, beyond OUTCOMES_MAX_BODY_BYTES.", "bad"),
    "overloaded": (
        "Overloaded",
        "Answered with 503; the provider tries again. Add replicas if it lasts.",
        "warn",
    ),
    "unavailable": (
        "No commit in time",
        "Answered with 503; the provider tries again. See what the doctor finds about the database.",
        "warn",
    ),
    "disconnected": ("Sender hung up", "The connection ended before the whole body had come.", "warn"),
    "failed": ("Failed here", "Answered with 500. The service's log says why.", "bad"),
}
"""Answers to webhooks: in words, what they mean and their colour."""
AUDIT_LIMIT = 50
AUDIT_FILTERS = ("action", "actor", "after")
KINDS = {
    "bodies": "Raw webhook bodies, with transcripts and recording addresses",
    "people": "Phones and call parameters, after a batch's last event",
    "quarantine": "Quarantined bodies, replayed or not",
    "audit": "The audit log",
    "snapshots": "The provider's past figures; each batch's latest stay",
    "rejected_rows": "Rejected rows of uploaded files",
}


class Health:
    """``/console/health``, and those of its parts that only show."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show_alarms, "admin"),
            Page("GET", f"{PATH}/live", self.show_live_alarms, "admin"),
            Page("GET", f"{PATH}/webhooks", self.show_webhooks, "admin"),
            Page("GET", f"{PATH}/webhooks/live", self.show_live_webhooks, "admin"),
            Page("GET", f"{PATH}/provider", self.show_provider, "admin"),
            Page("GET", f"{PATH}/provider/live", self.show_live_provider, "admin"),
            Page("GET", f"{PATH}/audit", self.show_audit, "admin", AUDIT_FILTERS),
            Page("GET", f"{PATH}/retention", self.show_retention, "admin"),
            Page("GET", f"{PATH}/doctor", self.show_doctor, "admin"),
            Page("GET", f"{PATH}/doctor/report", self.show_report, "admin"),
        ]

    async def show_alarms(self, visit: Visit) -> Response:
        """What is wrong now."""
        return visit.render("health/alarms.html", **await _read_alarms(visit))

    async def show_live_alarms(self, visit: Visit) -> Response:
        """The alarms, which the page asks for again every few seconds."""
        return visit.render("health/alarms_live.html", **await _read_alarms(visit))

    async def show_webhooks(self, visit: Visit) -> Response:
        """The webhooks of the last hour by answer."""
        return visit.render("health/webhooks.html", **await _read_webhooks(visit))

    async def show_live_webhooks(self, visit: Visit) -> Response:
        """The same, again every few seconds."""
        return visit.render("health/webhooks_live.html", **await _read_webhooks(visit))

    async def show_provider(self, visit: Visit) -> Response:
        """The budget of calls to the provider."""
        return visit.render("health/provider.html", budget=(await visit.look("GET /v1/provider/budget"))["data"])

    async def show_live_provider(self, visit: Visit) -> Response:
        """The same, again every few seconds."""
        return visit.render("health/provider_live.html", budget=(await visit.look("GET /v1/provider/budget"))["data"])

    async def show_audit(self, visit: Visit) -> Response:
        """The audit log, by ``action`` and ``actor``, a page at a time."""
        query = visit.query
        lines = await visit.read("GET /v1/audit", {**query, "limit": AUDIT_LIMIT})
        return visit.render("health/audit.html", query=query, lines=lines)

    async def show_retention(self, visit: Visit) -> Response:
        """What is kept for how long."""
        return visit.render("health/retention.html", kept=(await visit.read("GET /v1/retention"))["data"], kinds=KINDS)

    async def show_doctor(self, visit: Visit) -> Response:
        """The page, which asks for the report: an examination takes some seconds."""
        return visit.render("health/doctor.html", report=None, levels=[])

    async def show_report(self, visit: Visit) -> Response:
        """What the doctor finds, the worst first; as a page by itself for browsers without JavaScript."""
        report = (await visit.read("GET /v1/doctor"))["data"]
        levels = [(level, [each for each in report["findings"] if each["level"] == level]) for level in LEVELS]
        template = "health/doctor_report.html" if visit.is_fragment else "health/doctor.html"
        return visit.render(template, report=report, levels=[row for row in levels if row[1]])


async def _read_alarms(visit: Visit) -> dict[str, Any]:
    answer = await visit.look("GET /v1/alarms")
    return {"alarms": answer["data"], "as_of": answer["as_of"], "places": PLACES}


async def _read_webhooks(visit: Visit) -> dict[str, Any]:
    summary = (await visit.look("GET /v1/webhooks/summary"))["data"]
    targets: dict[str, list[dict[str, Any]]] = {}
    for row in summary["counts"]:
        words, meaning, kind = ANSWERS.get(row["answer"], (row["answer"], "", "plain"))
        shown = {**row, "name": words, "meaning": meaning, "kind": kind, "count": row["requests"], "href": None}
        targets.setdefault(row["target"], []).append(shown)
    for rows in targets.values():
        rows.sort(key=lambda row: -int(row["count"]))
    return {"summary": summary, "targets": targets}
