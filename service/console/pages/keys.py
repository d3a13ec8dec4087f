"""API keys: who has access, new ones, and revoking."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import ApiError, ConflictError, InvalidRequestError
from service.web.scopes import SCOPES

PATH = "/console/health/keys"
LIFETIMES = (("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "no end"))
MEANINGS = {
    "read": "figures, recipients, exports",
    "upload": "starts calls, and keeps the list of suppressed people",
    "feed": "reads the changes",
    "admin": "everything, erasure and keys included",
}


class KeyPages:
    """``/console/health/keys``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show, "admin", ("done",)),
            Page("POST", PATH, self.create, "admin"),
            Page("POST", f"{PATH}/{{key_id}}/revoke", self.revoke, "admin"),
        ]

    async def show(self, visit: Visit) -> Response:
        """All keys, and the form for a new one."""
        return await _show(visit, done=visit.query.get("done"))

    async def create(self, visit: Visit) -> Response:
        """Makes a key, and shows it: this page, which is kept nowhere, is the only one that ever does."""
        form = await visit.form()
        typed = {"name": str(form.get("name", "")).strip(), "days": str(form.get("days", ""))}
        scopes = [str(scope) for scope in form.getlist("scopes")]
        content: dict[str, Any] = {"name": typed["name"], "scopes": scopes}
        try:
            if not scopes:
                raise InvalidRequestError("Permissions: choose at least one")
            if typed["days"] not in dict(LIFETIMES):
                raise InvalidRequestError("Expires after: choose one of the list")
            content["expires_in_days"] = int(typed["days"]) if typed["days"] else None
            made = (await visit.send("POST /v1/keys", content))["data"]
        except (InvalidRequestError, ConflictError) as error:
            return await _show(visit, typed=typed, scopes=scopes, refusal=error)
        return await _show(visit, made=made)

    async def revoke(self, visit: Visit) -> Response:
        """Revokes a key, once that has been ticked."""
        if not (await visit.form()).get("confirmed"):
            raise InvalidRequestError("Tick the box beside the key to confirm that it is revoked")
        await visit.send("DELETE /v1/keys/{key_id}", key_id=visit.id("key_id"))
        return RedirectResponse(link(PATH, {"done": "revoked"}), 303)


async def _show(
    visit: Visit,
    *,
    typed: dict[str, str] | None = None,
    scopes: list[str] | None = None,
    refusal: ApiError | None = None,
    made: dict[str, Any] | None = None,
    done: str | None = None,
) -> Response:
    keys = (await visit.read("GET /v1/keys"))["data"]
    return visit.render(
        "health/keys.html",
        refusal.status if refusal else 200,
        live=[key for key in keys if key["is_live"]],
        past=[key for key in keys if not key["is_live"]][:50],
        scopes=[(scope, MEANINGS.get(scope, "")) for scope in SCOPES if visit.allows(scope)],
        chosen=scopes or [],
        typed=typed or {"name": "", "days": "90"},
        lifetimes=LIFETIMES,
        refusal=refusal,
        made=made,
        done=done,
    )
