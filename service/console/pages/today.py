"""Today: what runs now, what is wrong, and earlier batches."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.visit import Visit
from service.errors import InvalidRequestError
from service.web.scopes import Scope

LIMIT = 20
SHOWN_RUNNING = 12
FILTERS = ("q", "agent_id", "campaign_id", "state", "verdict", "from", "to", "sort", "offset")
STATES = {"finished": "false", "running": "true", "all": None}
"""As the API's ``is_running``; those that the provider has finished unless another is chosen."""


HOMES: tuple[tuple[Scope, str], ...] = (
    ("upload", "/console/upload"),
    ("people", "/console/people"),
    ("feed", "/console/connections"),
)


class Today:
    """``/console``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", "/console", self.show, None, FILTERS),
            Page("GET", "/console/", self.show, None, FILTERS),
            Page("GET", "/console/today/running", self.show_running),
        ]

    async def show(self, visit: Visit) -> Response:
        """The page; those who may not read figures are led to the first page that they may open."""
        if not visit.allows("read"):
            return RedirectResponse(
                next((path for scope, path in HOMES if visit.allows(scope)), "/console/components"), 303
            )
        query = visit.query
        state = query.get("state", "finished")
        if state not in STATES:
            raise InvalidRequestError(f"State: takes one of {', '.join(STATES)}")
        asked = {name: value for name, value in query.items() if name != "state"}
        batches = await visit.read(
            "GET /v1/batches", {**asked, "is_running": STATES[state], "limit": LIMIT, "time_zone": visit.zone.key}
        )
        agents = await visit.look("GET /v1/agents")
        return visit.render(
            "today.html",
            query=query,
            batches=batches,
            limit=LIMIT,
            sort=query.get("sort", "-created"),
            agent_choices=[(agent["agent_id"], f"Agent {agent['agent_id']}") for agent in agents["data"]],
            **await _read_running(visit),
        )

    async def show_running(self, visit: Visit) -> Response:
        """The running batches and the alarms, which the page asks for again every few seconds."""
        return visit.render("today/running.html", **await _read_running(visit))


async def _read_running(visit: Visit) -> dict[str, Any]:
    running = await visit.look("GET /v1/batches", {"is_running": "true", "limit": SHOWN_RUNNING})
    alarms = (await visit.look("GET /v1/alarms"))["data"]
    return {"running": running, "alarms": alarms}
