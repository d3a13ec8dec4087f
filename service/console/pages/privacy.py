"""People who are erased, and people who must not be called. Phones are sent in forms, so that no address has one."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.handles import PARAMETER
from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import ApiError, InvalidRequestError, NotFoundError

ERASURES = "/console/health/erasures"
SUPPRESSIONS = "/console/health/suppressions"
LIMIT = 50
SHOWN = ("after", "added", "known", "waiting", "removed", PARAMETER)


class PrivacyPages:
    """``/console/health/erasures`` and ``/console/health/suppressions``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", ERASURES, self.show_erasures, "admin", ("after", PARAMETER)),
            Page("POST", ERASURES, self.erase, "admin"),
            Page("GET", f"{ERASURES}/{{erasure_id}}", self.show_erasure, "admin"),
            Page("GET", f"{ERASURES}/{{erasure_id}}/live", self.show_live_erasure, "admin"),
            Page("GET", SUPPRESSIONS, self.show_suppressions, "upload", SHOWN),
            Page("POST", SUPPRESSIONS, self.change_suppressions, "upload"),
        ]

    async def show_erasures(self, visit: Visit) -> Response:
        """Past erasures, and the form for another; for a person who was given, what would be erased."""
        phone = visit.handed
        if phone is None:
            return await _show_erasures(visit)
        try:
            counted = (await visit.send("POST /v1/erasures", {"phone": phone, "dry_run": True}))["data"]
        except InvalidRequestError as error:
            return await _show_erasures(visit, phone=phone, refusal=error)
        return await _show_erasures(visit, phone=phone, counted=counted)

    async def erase(self, visit: Visit) -> Response:
        """First leads to what would be erased; erases it once that has been ticked."""
        form = await visit.form()
        phone = str(form.get("phone", "")).strip()
        if not form.get("confirmed"):
            return visit.hand_on(phone)
        try:
            done = (await visit.send("POST /v1/erasures", {"phone": phone}))["data"]
        except InvalidRequestError as error:
            return await _show_erasures(visit, phone=phone, refusal=error)
        return RedirectResponse(f"{ERASURES}/{done['erasure_id']}", 303)

    async def show_erasure(self, visit: Visit) -> Response:
        """The progress of an erasure."""
        return visit.render("health/erasure.html", erasure=await _read_erasure(visit))

    async def show_live_erasure(self, visit: Visit) -> Response:
        """The same, again every few seconds until it is done."""
        return visit.render("health/erasure_live.html", erasure=await _read_erasure(visit))

    async def show_suppressions(self, visit: Visit) -> Response:
        """The people who must not be called, without their phones; and whether one who was looked up is among them."""
        phone = visit.handed
        if phone is None:
            return await _show_suppressions(visit)
        typed = {"action": "find", "phone": phone, "reason": ""}
        try:
            found = await visit.read("GET /v1/suppressions", {"phone": phone})
        except InvalidRequestError as error:
            return await _show_suppressions(visit, typed=typed, refusal=error)
        return await _show_suppressions(visit, typed=typed, found=found["data"])

    async def change_suppressions(self, visit: Visit) -> Response:
        """Looks a person up, adds people or removes one, as ``action`` says."""
        form = await visit.form()
        typed = {name: str(form.get(name, "")).strip() for name in ("action", "phone", "reason")}
        try:
            if typed["action"] == "find":
                return visit.hand_on(_require(typed, "phone"))
            done = await _change(visit, typed)
        except (InvalidRequestError, NotFoundError) as error:
            return await _show_suppressions(visit, typed=typed, refusal=error)
        return RedirectResponse(link(SUPPRESSIONS, done), 303)


async def _show_erasures(
    visit: Visit, *, phone: str = "", counted: dict[str, Any] | None = None, refusal: ApiError | None = None
) -> Response:
    after = visit.query.get("after")
    page = await visit.read("GET /v1/erasures", {"limit": LIMIT, "after": after})
    status = refusal.status if refusal else 200
    return visit.render(
        "health/erasures.html", status, page=page, after=after, phone=phone, counted=counted, refusal=refusal
    )


async def _read_erasure(visit: Visit) -> dict[str, Any]:
    erasure: dict[str, Any] = (await visit.read(
        "GET /v1/erasures/{erasure_id}", erasure_id=visit.id("erasure_id")
    ))["data"]  # fmt: skip
    return erasure


async def _show_suppressions(
    visit: Visit,
    *,
    typed: dict[str, str] | None = None,
    found: list[dict[str, Any]] | None = None,
    refusal: ApiError | None = None,
) -> Response:
    after = visit.query.get("after")
    return visit.render(
        "health/suppressions.html",
        refusal.status if refusal else 200,
        page=await visit.read("GET /v1/suppressions", {"limit": LIMIT, "after": after}),
        after=after,
        typed=typed or {"action": "", "phone": "", "reason": ""},
        found=found,
        refusal=refusal,
        query=visit.query,
    )


async def _change(visit: Visit, typed: dict[str, str]) -> dict[str, Any]:
    """Adds people, a phone on each line, or removes one; returns what the next page says of it."""
    phone, reason = _require(typed, "phone"), _require(typed, "reason")
    if typed["action"] == "add":
        phones = [line.strip() for line in phone.splitlines() if line.strip()]
        content = {"phones": phones, "reason": reason, "source": "console"}
        added = (await visit.send("POST /v1/suppressions", content))["data"]
        return {"added": added["people"], "known": added["known"], "waiting": added["waiting_rows"]}
    if typed["action"] == "remove":
        await visit.send("DELETE /v1/suppressions", query={"phone": phone, "reason": reason})
        return {"removed": 1}
    raise InvalidRequestError("action: takes find, add or remove")


def _require(typed: dict[str, str], name: str) -> str:
    if not typed[name]:
        raise InvalidRequestError(f"{name}: is missing")
    return typed[name]
