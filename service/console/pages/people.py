"""People: the recipients of a batch by what became of them, one of them with every event behind it, and anybody across
batches. Without the scope ``people`` they are masked; with it, each look is a click and a line in the audit log."""

from typing import Any

from starlette.responses import Response

from service import wording
from service.console.handles import PARAMETER
from service.console.http import Page
from service.console.masking import mask_ids, mask_recipient, mask_text, mask_value
from service.console.pages.downloads import FORMATS, download_table
from service.console.revealing import is_to_be_revealed, lead_to_people, reveal_person
from service.console.visit import Visit
from service.errors import InvalidRequestError

BATCH = "/console/batches/{batch_id}"
LIST = "GET /v1/batch-calls/{batch_id}/recipients"
LIMIT = 50
FILTERS = ("state", "source", "min_attempts", "max_attempts", "result", "failure_reason", "parameter")
RANGE = ("dated", "dated_from", "dated_to")
"""The form's fields for ``result_between``: the result that holds a day or a time, and the days around it."""
SEARCHED = ("phone", "name", "parameter")


class People:
    """``/console/people`` and ``/console/batches/{batch_id}/people``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", f"{BATCH}/people", self.list, parameters=(*FILTERS, *RANGE, "after", PARAMETER)),
            Page("POST", f"{BATCH}/people", self.reveal, "people", (*FILTERS, *RANGE, "after", PARAMETER)),
            *(Page("GET", f"{BATCH}/people.{each}", self.download, "people", (*FILTERS, *RANGE)) for each in FORMATS),
            Page("GET", f"{BATCH}/people/{{recipient}}", self.show, parameters=(PARAMETER,)),
            Page("POST", f"{BATCH}/people/{{recipient}}", self.reveal, "people", (PARAMETER,)),
            Page("GET", "/console/events/{event_id:path}/body", self.show_body, "people"),
            Page("GET", "/console/people", self.ask, None, ("after", PARAMETER)),
            Page("POST", "/console/people", self.search, "people"),
        ]

    async def list(self, visit: Visit) -> Response:
        """The recipients of a batch that meet the filters; after a click with their phones and parameters, and each
        person is in the audit log."""
        batch_id, query = visit.id("batch_id"), visit.query
        is_revealed = is_to_be_revealed(visit)
        batch = (await visit.look("GET /v1/batch-calls/{batch_id}/outcomes", batch_id=batch_id))["data"]
        page: dict[str, Any] = {"data": [], "next": None, "has_more": False}
        refusal = None
        try:
            asked = {**read_filters(visit), "time_zone": visit.zone.key, "limit": LIMIT, "after": query.get("after")}
            page = await visit.read(LIST, asked, batch_id=batch_id)
        except InvalidRequestError as error:
            refusal = error.message
        rows = [mask_recipient(row) for row in page["data"]]
        if is_revealed:
            rows = [row | await reveal_person(visit, batch_id, row["recipient"]) for row in rows]
        return visit.render(
            "people/list.html",
            status=200 if refusal is None else 400,
            batch=batch["batch"],
            outcomes=batch,
            rows=rows,
            next=page["next"],
            query=query,
            filters={name: value for name, value in query.items() if name not in {"after", PARAMETER}},
            formats=FORMATS,
            refusal=refusal,
            is_revealed=is_revealed,
            states=[(code, words.sentence) for code, words in wording.STATES.items()],
        )

    async def reveal(self, visit: Visit) -> Response:
        """Leads back to the page, which then shows the people."""
        return lead_to_people(visit)

    async def download(self, visit: Visit) -> Response:
        """Exactly the people that the filters find, as a file: results as columns, and times of the viewer's zone."""
        call = "GET /v1/batch-calls/{batch_id}/recipients.{format}"
        return await download_table(visit, call, read_filters(visit), batch_id=visit.id("batch_id"))

    async def show(self, visit: Visit) -> Response:
        """One recipient: the outcome, and the events that it follows from; after a click with the person, and what
        happened to them in all batches, and each look is in the audit log."""
        is_revealed = is_to_be_revealed(visit)
        batch_id, number = visit.id("batch_id"), visit.id("recipient")
        found = await visit.read(
            "GET /v1/batch-calls/{batch_id}/recipients/{recipient}", batch_id=batch_id, recipient=number
        )
        row = mask_recipient(found["data"])
        history = row["history"] if visit.allows("people") else map(mask_ids, row["history"])
        row["history"] = [_mask_fact(fact) for fact in history]
        steps: list[dict[str, Any]] = []
        if is_revealed:
            row |= await reveal_person(visit, batch_id, number)
            row |= {name: found["data"][name] for name in ("results", "history", "failure_reason")}
            if row["phone"]:
                steps = (await visit.read("GET /v1/people/timeline", {"phone": row["phone"]}))["data"]
        return visit.render("people/person.html", row=row, steps=steps, is_revealed=is_revealed)

    async def show_body(self, visit: Visit) -> Response:
        """The raw body of an event, as it was signed; the look is in the audit log."""
        event_id = visit.id("event_id")
        answer = await visit.call("GET /v1/events/{event_id}/body", body=b"", event_id=event_id)
        text = bytes(answer.body).decode("utf-8", "backslashreplace")
        return visit.render("people/body.html", event_id=event_id, text=text)

    async def ask(self, visit: Visit) -> Response:
        """The form for a search across batches, and after it who was found; each search is in the audit log."""
        by, _, text = (visit.handed or "phone:").partition(":")
        people: dict[str, Any] = {"data": None, "next": None}
        refusal = None
        if visit.handed is not None:
            visit.require("people", "Looking people up")
            try:
                people = await visit.read("GET /v1/people", {by: text, "after": visit.query.get("after")})
            except InvalidRequestError as error:
                refusal = error.message
        return visit.render(
            "people/search.html",
            status=200 if refusal is None else 400,
            by=by,
            text=text,
            people=people["data"],
            next=people["next"],
            query=visit.query,
            is_over=visit.handed is None and PARAMETER in visit.query,
            refusal=refusal,
        )

    async def search(self, visit: Visit) -> Response:
        """Leads to who is found. The form is posted, so that no phone is in an address, a history or a log."""
        form = await visit.form()
        by, text = str(form.get("by", "phone")), str(form.get("text", "")).strip()
        if by not in SEARCHED:
            raise InvalidRequestError(f"Search by: takes one of {', '.join(SEARCHED)}")
        return visit.hand_on(f"{by}:{text}")


def read_filters(visit: Visit) -> dict[str, str]:
    """The API's filters from the page's address: those of the same names, and the days around a result. A filter by
    what is masked would reveal it, so it needs the permission to see people."""
    query = visit.query
    if "parameter" in query:
        visit.require("people", "Filtering by a parameter, which may be a name,")
    if any(visit.mask(query.get(name, "")) != query.get(name, "") for name in ("result", "failure_reason")):
        visit.require("people", "Filtering by this value")
    filters = {name: query[name] for name in FILTERS if name in query}
    name, first, last = (query.get(each, "") for each in RANGE)
    if first or last:
        if not name:
            raise InvalidRequestError("Choose the result that the days are about, such as promise_date")
        filters["result_between"] = f"{name}:{first}..{last}"
    return filters


def _mask_fact(fact: dict[str, Any]) -> dict[str, Any]:
    reason = mask_text(fact["failure_reason"] or "") or None
    return fact | {"results": mask_value(fact["results"]), "failure_reason": reason}
