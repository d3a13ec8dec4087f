"""Unattributed events: why they wait, and placing one by hand."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.masking import mask_ids, mask_phone
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import ApiError, ConflictError, InvalidRequestError, NotFoundError

PATH = "/console/health/unattributed"
EVENT = f"{PATH}/{{arrival_id}}"
LIMIT = 50
KINDS = (("single", "A single call"), ("inbound", "An inbound call"))
TYPED = ("batch_id", "recipient", "kind")


class UnattributedPages:
    """``/console/health/unattributed``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show_all, "admin", ("after", "done")),
            Page("GET", EVENT, self.show, "admin"),
            Page("POST", EVENT, self.assign, "admin"),
        ]

    async def show_all(self, visit: Visit) -> Response:
        """Events that fit no recipient, or several: why, and what to do."""
        after = visit.query.get("after")
        page = await visit.read("GET /v1/unattributed", {"limit": LIMIT, "after": after})
        return visit.render(
            "health/unattributed.html",
            page={**page, "data": [_mask(row) for row in page["data"]]},
            after=after,
            url=str(visit.request.base_url).rstrip("/"),
            is_assigned=visit.query.get("done") == "assigned",
        )

    async def show(self, visit: Visit) -> Response:
        """One event, and the recipients that it may belong to."""
        return await _show(visit)

    async def assign(self, visit: Visit) -> Response:
        """Places it where the form says, once that is ticked. What contradicts it is said at the form."""
        form = await visit.form()
        typed = {name: str(form.get(name, "")).strip() for name in TYPED}
        try:
            if not form.get("confirmed"):
                raise InvalidRequestError("Tick first that the call belongs there: it cannot be taken back here")
            content = _read_place(typed) | {"accept_phone": form.get("accept_phone") == "true" and not typed["kind"]}
            call = "POST /v1/unattributed/{arrival_id}/assignment"
            await visit.send(call, content, arrival_id=visit.id("arrival_id"))
        except (InvalidRequestError, ConflictError, NotFoundError) as error:
            return await _show(visit, typed, error)
        return RedirectResponse(link(PATH, {"done": "assigned"}), 303)


async def _show(visit: Visit, typed: dict[str, str] | None = None, refusal: ApiError | None = None) -> Response:
    found = await visit.read("GET /v1/unattributed/{arrival_id}", arrival_id=visit.id("arrival_id"))
    return visit.render(
        "health/unattributed_event.html",
        refusal.status if refusal else 200,
        event=_mask(found["data"]),
        typed=typed or dict.fromkeys(TYPED, ""),
        refusal=refusal,
        kinds=KINDS,
    )


def _read_place(typed: dict[str, str]) -> dict[str, Any]:
    if typed["kind"]:
        return {"kind": typed["kind"]}
    if not all(
        text.isascii() and text.isdecimal() and len(text) <= 18 for text in (typed["batch_id"], typed["recipient"])
    ):
        raise InvalidRequestError("Batch and recipient: give both numbers, as the batch's pages show them")
    return {"batch_id": int(typed["batch_id"]), "recipient": int(typed["recipient"])}


def _mask(row: dict[str, Any]) -> dict[str, Any]:
    """The event without its person, whose phone may also be in its ids."""
    return mask_ids(row) | {"phone": mask_phone(row["phone"])}
