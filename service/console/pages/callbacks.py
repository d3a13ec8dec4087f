"""Callbacks: who asked to be called back or promised something, and when it is due."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.handles import PARAMETER
from service.console.http import Page
from service.console.masking import mask_recipient, mask_text
from service.console.pages.downloads import FORMATS, download_table
from service.console.rendering import link
from service.console.revealing import is_to_be_revealed, lead_to_people, reveal_person
from service.console.visit import Visit
from service.errors import ApiError, ConflictError, InvalidRequestError

PATH = "/console/callbacks"
FILTERS = ("agent_id", "batch_id", "due_from", "due_to", "state", "after")
STATES = (("open", "Open"), ("overdue", "Overdue"), ("done", "Done"))
LIMIT = 25


class Callbacks:
    """``/console/callbacks``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show, parameters=(*FILTERS, PARAMETER)),
            Page("POST", PATH, self.reveal, "people", FILTERS),
            *(Page("GET", f"{PATH}.{each}", self.download, "people", FILTERS) for each in FORMATS),
            Page("POST", f"{PATH}/{{batch_id}}/{{recipient}}", self.mark, "people", FILTERS),
            Page("GET", f"{PATH}/settings", self.show_settings),
            Page("POST", f"{PATH}/settings", self.set, "upload"),
        ]

    async def show(self, visit: Visit) -> Response:
        """Callbacks by when they are due: the open ones, unless another state is asked for. After a click with the
        people to call, and each is in the audit log."""
        return await self._show(visit)

    async def _show(self, visit: Visit, conflict: dict[str, Any] | None = None) -> Response:
        """``conflict``: the callback that could not be marked, and why: shown at its row, or above without one."""
        is_revealed = is_to_be_revealed(visit)
        query = {"state": "open"} | {name: value for name, value in visit.query.items() if name in FILTERS}
        page: dict[str, Any] = {"data": [], "next": None, "is_applied": True}
        refusal = None
        try:
            page = await visit.read("GET /v1/callbacks", {**query, "limit": LIMIT, "time_zone": visit.zone.key})
        except InvalidRequestError as error:
            refusal = error.message
        rows = [_mask(row) for row in page["data"]]
        if is_revealed:
            people = [await reveal_person(visit, row["batch_id"], row["recipient"]) for row in rows]
            rows = [row | person for row, person in zip(page["data"], people, strict=True)]
        agents = await visit.look("GET /v1/agents")
        return visit.render(
            "callbacks.html",
            status=409 if conflict else 200 if refusal is None else 400,
            conflict=None if conflict is None else conflict | {"row": _find_row(rows, conflict)},
            rows=rows,
            next=page["next"],
            is_applied=page["is_applied"],
            query=query,
            filters={name: value for name, value in query.items() if name != "after"},
            states=STATES,
            formats=FORMATS,
            is_revealed=is_revealed,
            refusal=refusal,
            agent_choices=[(agent["agent_id"], f"Agent {agent['agent_id']}") for agent in agents["data"]],
        )

    async def reveal(self, visit: Visit) -> Response:
        """Leads back to the page, which then shows the people."""
        return lead_to_people(visit)

    async def download(self, visit: Visit) -> Response:
        """Exactly the callbacks that the filters find, as a file."""
        query = {name: value for name, value in visit.query.items() if name in FILTERS and name != "after"}
        return await download_table(visit, "GET /v1/callbacks.{format}", query)

    async def mark(self, visit: Visit) -> Response:
        """Marks one as done, or as open again, and goes back to the list, which shows it if somebody was faster."""
        form = await visit.form()
        note = str(form.get("note", "")).strip()
        content = {"done": form.get("done") == "true", "result": str(form.get("result", "")) or None}
        if note and content["done"]:
            content["note"] = note
        batch_id, recipient = visit.id("batch_id"), visit.id("recipient")
        try:
            await visit.send(
                "PUT /v1/callbacks/{batch_id}/{recipient}", content, batch_id=batch_id, recipient=recipient
            )
        except ConflictError as error:
            conflict = {"batch_id": batch_id, "recipient": recipient, "message": error.message}
            conflict["result"] = str(form.get("result", ""))
            return await self._show(visit, conflict)
        query = {name: value for name, value in visit.query.items() if name in FILTERS}
        return RedirectResponse(link(PATH, query), 303)

    async def show_settings(self, visit: Visit) -> Response:
        """Which results of each agent are callbacks."""
        return await self._show_settings(visit)

    async def set(self, visit: Visit) -> Response:
        """Sets them for an agent; an empty list removes the setting."""
        form = await visit.form()
        agent_id = str(form.get("agent_id", "")).strip()
        names = [name.strip() for name in str(form.get("results", "")).split(",") if name.strip()]
        call = f"{'PUT' if names else 'DELETE'} /v1/agents/{{agent_id}}/callbacks"
        try:
            if not agent_id.isdecimal():
                raise InvalidRequestError("Agent: give the agent's number")
            content = {"results": names, "time_zone": visit.zone.key} if names else None
            await visit.send(call, content, agent_id=agent_id)
        except ApiError as error:
            if error.status not in {400, 404}:
                raise
            return await self._show_settings(visit, agent_id, ", ".join(names), error.message)
        return RedirectResponse(f"{PATH}/settings", 303)

    async def _show_settings(self, visit: Visit, agent_id: str = "", results: str = "", refusal: str = "") -> Response:
        agents = (await visit.look("GET /v1/agents"))["data"]
        settings = []
        for agent in agents:
            try:
                found = await visit.read("GET /v1/agents/{agent_id}/callbacks", agent_id=agent["agent_id"])
            except ApiError as error:
                if error.status != 404:
                    raise
                continue
            settings.append(found["data"])
        return visit.render(
            "callbacks/settings.html",
            status=400 if refusal else 200,
            agents=agents,
            settings=settings,
            agent_id=agent_id,
            results=results,
            refusal=refusal,
        )


def _find_row(rows: list[dict[str, Any]], conflict: dict[str, Any]) -> int | None:
    """The place of the callback that could not be marked; None if the filters leave it out."""
    for place, row in enumerate(rows):
        if all(str(row[name]) == str(conflict[name]) for name in ("batch_id", "recipient", "result")):
            return place
    return None


def _mask(row: dict[str, Any]) -> dict[str, Any]:
    return mask_recipient(row) | {"value": mask_text(row["value"]), "note": mask_text(row["note"] or "")}
