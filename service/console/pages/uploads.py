"""Uploads: what became of each file, and the question to a person where nobody knows."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import ApiError, ConflictError, InvalidRequestError, ProviderError
from service.plain import reword

PATH = "/console/uploads/{upload_id}"
UPLOAD = "GET /v1/uploads/{upload_id}"
LIMIT = 25
STATES = {
    "preparing": ("Being checked", "info"),
    "prepared": ("Ready to be sent", "info"),
    "held": ("Waits for its test", "plain"),
    "uploading": ("Being sent", "info"),
    "uploaded": ("Sent", "good"),
    "unknown": ("Sent or not?", "bad"),
    "failed": ("Not sent", "warn"),
}
MOVING = ("preparing", "prepared", "uploading")


class UploadsPages:
    """``/console/uploads``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", "/console/uploads", self.show_all, parameters=("state", "after")),
            Page("GET", PATH, self.show, parameters=("done",)),
            Page("GET", f"{PATH}/rejected.csv", self.download_rejected, "upload"),
            Page("GET", f"{PATH}/duplicates.csv", self.download_duplicates, "upload"),
            Page("POST", f"{PATH}/resolve", self.resolve, "upload"),
        ]

    async def show_all(self, visit: Visit) -> Response:
        """The uploads, newest first, and those that wait for a decision above them."""
        query = visit.query
        uploads = await visit.read("GET /v1/uploads", {**query, "limit": LIMIT})
        unknown = (await visit.read("GET /v1/uploads", {"state": "unknown"}))["data"]
        return visit.render("uploads.html", query=query, uploads=uploads, unknown=unknown, states=STATES)

    async def show(self, visit: Visit) -> Response:
        """An upload with its report, or the question what became of it."""
        return await _show(visit)

    async def download_rejected(self, visit: Visit) -> Response:
        """The rows with errors that the upload left out."""
        return await _download(visit, "rejected.csv")

    async def download_duplicates(self, visit: Visit) -> Response:
        """The rows that the upload left out because another row has their person."""
        return await _download(visit, "duplicates.csv")

    async def resolve(self, visit: Visit) -> Response:
        """Records a person's answer. Where the evidence is against it, the question is asked again with the reason."""
        form, upload_id = await visit.form(), visit.id("upload_id")
        try:
            decision = read_decision({name: form.getlist(name) for name in form})
            await visit.send("POST /v1/uploads/{upload_id}/resolve", decision, upload_id=upload_id)
        except (InvalidRequestError, ConflictError, ProviderError) as error:
            return await _show(visit, error)
        return RedirectResponse(link(PATH.format(upload_id=upload_id), {"done": "resolved"}), 303)


def read_decision(form: dict[str, list[Any]]) -> dict[str, Any]:
    """The API's resolution from the form; raises InvalidRequestError for an answer without its tick."""
    given = {name: str(values[-1]) for name, values in form.items()}
    if given.get("answer") == "sent":
        batch_id = given.get("batch_id", "") or given.get("other_batch_id", "")
        if not _is_id(batch_id):
            raise InvalidRequestError("Choose the batch that the upload became, or write its number")
        return {"batch_id": int(batch_id), "accept_difference": "accept_difference" in given}
    if given.get("answer") != "not_sent" or given.get("sure") != "true":
        raise InvalidRequestError("Tick first that you have looked in the provider's dashboard")
    denied = [int(value) for value in form.get("not_these", []) if _is_id(str(value))]
    decision: dict[str, Any] = {"not_sent": True}
    if denied or "has_calls" in given:
        decision["not_these"] = denied
    if "unreadable" in given:
        decision["accept_unreadable"] = True
    return decision


async def _download(visit: Visit, file: str) -> Response:
    return await visit.call(f"{UPLOAD}/{file}", body=b"", upload_id=visit.id("upload_id"))


async def _show(visit: Visit, refusal: ApiError | None = None) -> Response:
    upload_id = visit.id("upload_id")
    upload = (await visit.read(UPLOAD, upload_id=upload_id))["data"]
    evidence, unavailable = None, None
    if upload["state"] == "unknown" and visit.allows("upload"):
        try:
            evidence = (await visit.read(f"{UPLOAD}/evidence", upload_id=upload_id))["data"]
        except (ConflictError, ProviderError) as error:
            unavailable = error.message
    return visit.render(
        "uploads/upload.html",
        refusal.status if refusal else 200,
        upload=upload,
        evidence=evidence,
        unavailable=unavailable,
        refusal=refusal.message if refusal else None,
        states=STATES,
        reword=reword,
        is_moving=upload["state"] in MOVING,
        is_resolved=visit.query.get("done") == "resolved",
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
