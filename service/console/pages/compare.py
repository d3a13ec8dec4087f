"""Compare: two batches, campaigns, weeks, or a test batch and its main batch, side by side."""

from datetime import UTC, datetime, timedelta, tzinfo

from starlette.responses import Response

from service.console.http import Page
from service.console.visit import Visit
from service.errors import ApiError

KINDS = (
    ("batch", "A batch"),
    ("campaign", "A campaign"),
    ("test", "The test batch of a campaign"),
    ("main", "The main batch of a campaign"),
    ("agent", "An agent's batches of some days"),
    ("period", "All batches of some days"),
)
NAMES = {
    "reached_rate": "Reached",
    "success_rate": "Success rate",
    "completion_rate": "Completion rate",
    "goal_rate": "Goal rate",
    "penetration": "Called at least once",
    "contact_rate": "Contact rate",
    "connect_rate": "Connect rate",
    "attempts_per_connect": "Calls per connected call",
    "average_talk_seconds": "Average talk time",
}
SIDES = ("left", "right")
FIELDS = ("kind", "id", "from", "to")
PARAMETERS = (*SIDES, "by", *(f"{side}_{field}" for side in SIDES for field in FIELDS))
BATCHES = 50


class Compare:
    """``/console/compare``."""

    def pages(self) -> list[Page]:
        return [Page("GET", "/console/compare", self.show, parameters=PARAMETERS)]

    async def show(self, visit: Visit) -> Response:
        """The comparison in the address, and the form for another."""
        query = visit.query
        sides = {name: read_side(query, name) for name in SIDES}
        found, refusal = None, None
        if all(side["text"] for side in sides.values()):
            asked = {name: side["text"] for name, side in sides.items()}
            try:
                asked |= {"by": query.get("by", ""), "time_zone": visit.zone.key}
                found = (await visit.read("GET /v1/compare", asked))["data"]
            except ApiError as error:
                if error.status not in {400, 404}:
                    raise
                refusal = error.message
        batches = await visit.look("GET /v1/batches", {"limit": BATCHES})
        agents = await visit.look("GET /v1/agents")
        return visit.render(
            "compare.html",
            status=200 if refusal is None else 400,
            sides=sides,
            found=found,
            refusal=refusal,
            query=query,
            kinds=KINDS,
            names=NAMES,
            batches=batches["data"],
            agents=agents["data"],
            weeks=name_weeks(datetime.now(UTC), visit.zone),
        )


def read_side(query: dict[str, str], name: str) -> dict[str, str]:
    """A side of the comparison: from the form's fields, or as the API writes it (``left=batch:123``). ``text`` is empty
    while something is missing."""
    kind, rest, first, last = (query.get(f"{name}_{field}", "") for field in FIELDS)
    if text := query.get(name, ""):
        kind, _, rest = text.partition(":")
        if kind in {"agent", "period"}:
            rest, _, span = rest.rpartition(":")
            first, _, last = span.partition("..")
    span = f"{first}..{last}" if first and last else ""
    texts = {"agent": f"agent:{rest}:{span}" if rest and span else "", "period": f"period:{span}" if span else ""}
    return {
        "kind": kind, "id": rest, "from": first, "to": last,
        "text": texts.get(kind, f"{kind}:{rest}" if kind and rest else ""),
    }  # fmt: skip


def name_weeks(now: datetime, zone: tzinfo) -> dict[str, str]:
    """The last seven days, today included, and the seven before, as periods of days."""
    today, week = now.astimezone(zone).date(), timedelta(days=7)
    first = today - timedelta(days=6)
    return {"left": f"{first - week}..{today - week}", "right": f"{first}..{today}"}
