"""Connections: who reads the feed and how far each is, and how to connect BI tools and programs."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import ApiError, InvalidRequestError

PATH = "/console/connections"
CONSUMER = f"{PATH}/consumers/{{name}}"
ONE = "GET /v1/feed/consumers/{name}"


class Connections:
    """``/console/connections``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show, "feed", ("done",)),
            Page("GET", f"{PATH}/live", self.show_live, "feed"),
            Page("GET", CONSUMER, self.show_consumer, "feed", ("from", "done")),
            Page("POST", f"{CONSUMER}/pause", self.pause, "feed"),
            Page("POST", f"{CONSUMER}/resume", self.resume, "feed"),
            Page("POST", f"{CONSUMER}/replay", self.replay, "feed"),
            Page("POST", f"{CONSUMER}/forget", self.forget, "feed"),
        ]

    async def show(self, visit: Visit) -> Response:
        """The page. What BI tools and exports need is shown to those who may read."""
        bi = batch = None
        if visit.allows("read"):
            bi = (await visit.look("GET /v1/bi"))["data"]
            latest = (await visit.look("GET /v1/batch-calls", {"limit": 1}))["data"]
            batch = latest[0]["id"] if latest else None
        return visit.render(
            "connections.html",
            consumers=(await visit.read("GET /v1/feed/consumers"))["data"],
            bi=bi,
            batch=batch or "BATCH",
            url=str(visit.request.base_url).rstrip("/"),
            done=visit.query.get("done"),
        )

    async def show_live(self, visit: Visit) -> Response:
        """The table of consumers, which the page asks for again every few seconds."""
        consumers = (await visit.look("GET /v1/feed/consumers"))["data"]
        return visit.render("connections/consumers.html", consumers=consumers)

    async def show_consumer(self, visit: Visit) -> Response:
        """A consumer; ``from`` asks what would be sent again from a position."""
        return await _show_consumer(visit)

    async def pause(self, visit: Visit) -> Response:
        """Refuses its reading until it is resumed."""
        return await _change(visit, "pause", "paused")

    async def resume(self, visit: Visit) -> Response:
        """Lets it read on."""
        return await _change(visit, "resume", "resumed")

    async def replay(self, visit: Visit) -> Response:
        """Sets its position back, once what will be sent again has been ticked."""
        form, name = await visit.form(), visit.id("name")
        typed = str(form.get("position", ""))
        try:
            position = _read_position(typed)
            if not form.get("confirmed"):
                raise InvalidRequestError("Tick the box to confirm that these changes are sent again")
            consumer = (await visit.read(ONE, name=name))["data"]
            _check_position(position, consumer)
            content = {"position": position, "reset": True}
            await visit.send("PUT /v1/feed/consumers/{name}", content, name=name)
        except InvalidRequestError as error:
            return await _show_consumer(visit, typed, error)
        return RedirectResponse(link(CONSUMER.format(name=name), {"done": "replayed"}), 303)

    async def forget(self, visit: Visit) -> Response:
        """Forgets it, once its name has been ticked."""
        form, name = await visit.form(), visit.id("name")
        if form.get("confirmed") != name:
            refusal = InvalidRequestError(f"Tick the box to confirm that {name} is forgotten")
            return await _show_consumer(visit, refusal=refusal)
        await visit.send("DELETE /v1/feed/consumers/{name}", name=name)
        return RedirectResponse(link(PATH, {"done": "forgotten"}), 303)


async def _change(visit: Visit, action: str, done: str) -> Response:
    name = visit.id("name")
    await visit.send(f"POST /v1/feed/consumers/{{name}}/{action}", name=name)
    return RedirectResponse(link(CONSUMER.format(name=name), {"done": done}), 303)


async def _show_consumer(visit: Visit, typed: str | None = None, refusal: ApiError | None = None) -> Response:
    name = visit.id("name")
    consumer = (await visit.read(ONE, name=name))["data"]
    count = None
    typed = visit.query.get("from") if typed is None else typed
    if typed is not None:
        try:
            position = _read_position(typed)
            _check_position(position, consumer)
            count = (await visit.read("GET /v1/feed/count", {"after": position}))["data"]
        except InvalidRequestError as error:
            refusal = refusal or error
    return visit.render(
        "connections/consumer.html",
        refusal.status if refusal else 200,
        consumer=consumer,
        typed=typed,
        count=count,
        refusal=refusal,
        url=str(visit.request.base_url).rstrip("/"),
        done=visit.query.get("done"),
    )


def _read_position(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidRequestError("Position: takes a whole number; 0 is the beginning")
    return int(text)


def _check_position(position: int, consumer: dict[str, Any]) -> None:
    if position > consumer["position"]:
        raise InvalidRequestError(
            f"Position: must not be beyond {consumer['position']}, which {consumer['name']} has acknowledged; "
            "it would miss what lies between"
        )
