"""Quarantine: bodies that cannot be used, and replaying them."""

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import InvalidRequestError

QUARANTINE = "/console/health/quarantine"
LIMIT = 50
SHOWN_BYTES = 32 * 1024
"""Of a body; the download has all of it."""


class QuarantinePages:
    """``/console/health/quarantine``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", QUARANTINE, self.show_quarantine, "admin", ("after", "replayed", "kept", "rest")),
            Page("POST", f"{QUARANTINE}/replay", self.replay_all, "admin"),
            Page("GET", f"{QUARANTINE}/{{quarantine_id}}", self.show_body, "admin"),
            Page("GET", f"{QUARANTINE}/{{quarantine_id}}/body", self.download_body, "admin"),
            Page("POST", f"{QUARANTINE}/{{quarantine_id}}/replay", self.replay, "admin"),
        ]

    async def show_quarantine(self, visit: Visit) -> Response:
        """The bodies in quarantine, oldest first."""
        after = visit.query.get("after")
        page = await visit.read("GET /v1/quarantine", {"limit": LIMIT, "after": after})
        return visit.render("health/quarantine.html", page=page, after=after, query=visit.query)

    async def show_body(self, visit: Visit) -> Response:
        """A body as it came, as text; the audit log records the look."""
        quarantine_id = visit.id("quarantine_id")
        body = await _read_body(visit, quarantine_id)
        return visit.render(
            "health/body.html",
            quarantine_id=quarantine_id,
            text=show_bytes(body[:SHOWN_BYTES]),
            size=len(body),
            shown=min(len(body), SHOWN_BYTES),
        )

    async def download_body(self, visit: Visit) -> Response:
        """A body as a file."""
        return await visit.call(
            "GET /v1/quarantine/{quarantine_id}/body", body=b"", quarantine_id=visit.id("quarantine_id")
        )

    async def replay(self, visit: Visit) -> Response:
        """Processes a body again."""
        replayed, quarantine_id = 1, visit.id("quarantine_id")
        try:
            await visit.send("POST /v1/quarantine/{quarantine_id}/replay", quarantine_id=quarantine_id)
        except InvalidRequestError:  # it still cannot be used
            replayed = 0
        return RedirectResponse(link(QUARANTINE, {"replayed": replayed, "kept": 1 - replayed}), 303)

    async def replay_all(self, visit: Visit) -> Response:
        """Processes all bodies again, some hundred at a time."""
        after = str((await visit.form()).get("after", ""))
        answer = (await visit.send("POST /v1/quarantine/replay", query={"limit": 200, "after": after}))["data"]
        query = {"replayed": answer["replayed"], "kept": answer["kept"], "rest": answer["next"]}
        return RedirectResponse(link(QUARANTINE, query), 303)


async def _read_body(visit: Visit, quarantine_id: str) -> bytes:
    answer = await visit.call("GET /v1/quarantine/{quarantine_id}/body", body=b"", quarantine_id=quarantine_id)
    return bytes(answer.body)


def show_bytes(body: bytes) -> str:
    """The bytes as text. What is not UTF-8, or not printable, such as a sign that turns the direction of writing, is
    written as an escape."""
    text = body.decode(errors="backslashreplace")
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )
