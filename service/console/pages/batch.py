"""A batch: how far it is, what came of it, why it is not final yet, and when to call."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from service import wording
from service.console.http import Page
from service.console.rendering import link, parse_time
from service.console.visit import Visit
from service.errors import ApiError, ConflictError, InvalidRequestError, NotFoundError

OUTCOMES = "GET /v1/batch-calls/{batch_id}/outcomes"
PATH = "/console/batches/{batch_id}"
GOOD, WAITING = ("completed",), ("pending_retry", "in_progress")


class _Reason(msgspec.Struct):
    code: str
    figure: str | None = None
    count: float | None = None
    recipients: list[int] = []
    done: int | None = None
    total: int | None = None
    expected_at: datetime | None = None
    ours: float | None = None
    theirs: float | None = None
    since: datetime | None = None
    cause: str | None = None


class BatchPages:
    """``/console/batches/{batch_id}``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show, parameters=("by", "as_of", "done")),
            Page("GET", f"{PATH}/live", self.show_live),
            Page("POST", f"{PATH}/promote", self.promote, "upload"),
            Page("POST", f"{PATH}/reconcile", self.reconcile, "upload"),
        ]

    async def show(self, visit: Visit) -> Response:
        """The page; ``by`` slices it, and ``as_of`` shows an earlier time. A time without its offset, which the form
        sends, is of the viewer's zone; the page's address has the offset, so that others see the same."""
        query, batch_id = visit.query, visit.id("batch_id")
        now = (await visit.look(OUTCOMES, {"time_zone": visit.zone.key}, batch_id=batch_id))["data"]
        as_of = read_moment(query.get("as_of", ""), visit.zone)
        if as_of is not None and (written := as_of.isoformat()) != query["as_of"]:
            return RedirectResponse(link(visit.request.url.path, query, as_of=written), 303)
        sliced, refusal, unknown_at = None, None, None
        data = now
        if as_of is not None:
            asked = {"time_zone": visit.zone.key, "as_of": as_of.isoformat()}
            try:
                data = (await visit.read(OUTCOMES, asked, batch_id=batch_id))["data"]
            except NotFoundError:
                as_of, unknown_at = None, as_of
        elif by := query.get("by"):
            if not by.startswith("results."):
                visit.require("people", "Slicing by a parameter, which may be a name,")
            try:
                asked = {"time_zone": visit.zone.key, "by": by}
                sliced = (await visit.read(OUTCOMES, asked, batch_id=batch_id))["data"]["slices"]
            except ApiError as error:
                refusal = error.message
        return visit.render(
            "batch.html",
            data=data,
            figures=describe(data, visit.zone),
            query=query,
            as_of=as_of,
            life=find_life(now),
            slices=sliced,
            refusal=refusal,
            unknown_at=unknown_at,
            names=await _list_names(visit, batch_id, data),
            parts=await _read_campaign(visit, data),
        )

    async def show_live(self, visit: Visit) -> Response:
        """The part that changes while the batch runs; the page asks for it again every few seconds."""
        batch_id = visit.id("batch_id")
        data = (await visit.look(OUTCOMES, {"time_zone": visit.zone.key}, batch_id=batch_id))["data"]
        parts = await _read_campaign(visit, data)
        return visit.render("batch/live.html", data=data, figures=describe(data, visit.zone), parts=parts)

    async def promote(self, visit: Visit) -> Response:
        """Calls the rest of a test batch's file, once the number of people has been ticked."""
        batch_id, form = visit.id("batch_id"), await visit.form()
        data = (await visit.read(OUTCOMES, batch_id=batch_id))["data"]
        parts = (data["campaign"] or {}).get("batches", [])
        held = sum(part["total_recipients"] for part in parts if part["role"] == "main")
        if form.get("people") != str(held):
            raise ConflictError(f"Go back and tick that {held:,} people will be called: that is how many wait now")
        await visit.send("POST /v1/batch-calls/{batch_id}/promote", batch_id=batch_id)
        return RedirectResponse(link(PATH.format(batch_id=batch_id), {"done": "promoted"}), 303)

    async def reconcile(self, visit: Visit) -> Response:
        """Compares the batch with the provider now, and fetches what is missing."""
        batch_id = visit.id("batch_id")
        await visit.send("POST /v1/batch-calls/{batch_id}/reconcile", batch_id=batch_id)
        return RedirectResponse(link(PATH.format(batch_id=batch_id), {"done": "compared"}), 303)


def describe(data: dict[str, Any], zone: tzinfo) -> dict[str, Any]:
    """What the page draws, from the outcomes of a batch: the verdict in words, the funnel, the states, and the parts of
    the bar. Times in words are those of ``zone``."""
    recipients, statuses, attempts = data["recipients"], data["statuses"], data["attempts"]
    people = f"/console/batches/{data['batch']['id']}/people"
    reached = statuses["completed"]
    failed = recipients["processed"] - reached
    states = [
        {"name": name.replace("_", " "), "count": count, "kind": _shade(name), "href": link(people, {"state": name})}
        for name, count in [
            *statuses.items(),
            ("pending_retry", recipients["pending_retry"]),
            ("in_progress", recipients["in_progress"]),
        ]
        if count
    ]
    goal = data["goal"]
    reasons = msgspec.convert((data["reconciliation"] or {}).get("reasons", []), list[_Reason])
    return {
        "verdict": wording.describe(wording.VERDICTS, data["verdict"]),
        "reasons": [(reason, to_sentence(text)) for reason, text in wording.describe_reasons(reasons, zone)],
        "people": people,
        "funnel": [
            ("Uploaded", recipients["total"], people),
            ("Called", attempts["recipients"], link(people, {"min_attempts": 1})),
            ("Reached", reached, link(people, {"state": "completed"})),
            *([("Goal met", goal["met"], None)] if goal else []),
        ],
        "parts": [
            ("reached", reached, "good"),
            ("not reached", failed, "bad"),
            ("waiting for a retry", recipients["pending_retry"], "warn"),
        ],
        "states": sorted(states, key=lambda row: -int(str(row["count"]))),
        "is_live": data["verdict"] != "complete" or bool(data["details_outstanding"]),
    }


def to_sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _shade(state: str) -> str:
    return "good" if state in GOOD else "warn" if state in WAITING else "bad"


def read_moment(text: str, zone: tzinfo) -> datetime | None:
    """The moment in the address, in UTC to the second; None for now. Raises InvalidRequestError for what is no time."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text).replace(microsecond=0)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError("As of: takes a day and a time, such as 2026-03-16T14:05") from error


def find_life(data: dict[str, Any]) -> tuple[datetime, datetime]:
    """From the batch's creation until its last event, or now."""
    now = datetime.now(UTC)
    created = parse_time(data["batch"]["created_at"]) or now
    end = min(now, (parse_time(data["last_event_at"]) or now) + timedelta(minutes=1))
    return created, max(created, end)


async def _list_names(visit: Visit, batch_id: str, data: dict[str, Any]) -> list[tuple[str, str]]:
    """What the batch can be sliced by: its results, and the parameters of its first recipient."""
    page = await visit.look("GET /v1/batch-calls/{batch_id}/recipients", {"limit": 1}, batch_id=batch_id)
    parameters = [name for row in page["data"] for name in row["parameters"] or {} if visit.allows("people")]
    results = [(f"results.{name}", f"Result: {name}") for name in data["results"]]
    return [*results, *((name, f"Parameter: {name}") for name in parameters)]


async def _read_campaign(visit: Visit, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The test batch and the main batch, each with its outcomes once the provider has it."""
    if data["campaign"] is None:
        return []
    parts = []
    for part in data["campaign"]["batches"]:
        outcomes = None
        if part["batch_id"] is not None:
            outcomes = (await visit.look(OUTCOMES, batch_id=part["batch_id"]))["data"]
        parts.append({**part, "outcomes": outcomes})
    return parts
