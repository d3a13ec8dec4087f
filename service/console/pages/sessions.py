"""Sessions: who is signed in to the console, and signing somebody out."""

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import InvalidRequestError

PATH = "/console/health/sessions"
LIMIT = 50


class SessionPages:
    """``/console/health/sessions``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show, "admin", ("after", "done")),
            Page("POST", f"{PATH}/{{session_id}}/revoke", self.revoke, "admin"),
        ]

    async def show(self, visit: Visit) -> Response:
        """The open sessions, newest first."""
        after = visit.query.get("after")
        page = await visit.read("GET /v1/sessions", {"limit": LIMIT, "after": after})
        return visit.render(
            "health/sessions.html",
            page=page,
            after=after,
            own=visit.session.session_id,
            is_revoked=visit.query.get("done") == "revoked",
        )

    async def revoke(self, visit: Visit) -> Response:
        """Ends a session, once that has been ticked."""
        if not (await visit.form()).get("confirmed"):
            raise InvalidRequestError("Tick the box beside the session to confirm that it is ended")
        await visit.send("DELETE /v1/sessions/{session_id}", session_id=visit.id("session_id"))
        return RedirectResponse(link(PATH, {"done": "revoked"}), 303)
