"""Upload: a file is checked, corrected and checked again until it says what is meant, and only then sent.

The browser sends the file with every step, and the choices in the address, so the file goes on to the API unread. The
API answers each check with a digest of what it saw. The tick that allows the calls is that digest, so what is sent is
what was shown, or nothing.
"""

import secrets
from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from service.console.http import Page
from service.console.rendering import link
from service.console.visit import Visit
from service.errors import ApiError, InvalidRequestError, NotFoundError, ProviderError
from service.plain import reword

PATH = "/console/upload"
CALL = "POST /v1/batch-call"
CHOICES = (
    "agent_id", "name", "phone_column", "region", "encoding", "delimiter", "sheet", "invalid", "duplicates",
    "skip_called_within", "accept_columns", "force", "test_recipients", "promote_at_success_rate",
    "promote_at_goal_rate",
)  # fmt: skip
SENT = (*CHOICES, "report_digest")
"""What the form sends with each step."""
RECENT = 50


class UploadPages:
    """``/console/upload``."""

    def pages(self) -> list[Page]:
        return [
            Page("GET", PATH, self.show, "upload", CHOICES),
            Page("POST", f"{PATH}/check", self.check, "upload", SENT),
            Page("POST", f"{PATH}/rejected.csv", self.download_rejected, "upload", SENT),
            Page("POST", f"{PATH}/duplicates.csv", self.download_duplicates, "upload", SENT),
            Page("POST", PATH, self.send, "upload", SENT),
        ]

    async def show(self, visit: Visit) -> Response:
        """The empty form; its address may give the agent, the name and the choices."""
        agents: list[int] = []
        if visit.allows("read"):
            uploads = (await visit.look("GET /v1/uploads", {"limit": RECENT}))["data"]
            agents = list(dict.fromkeys(upload["agent_id"] for upload in uploads))
        return visit.render("upload.html", query=fill_choices(visit.query), agents=agents)

    async def check(self, visit: Visit) -> Response:
        """What the file holds, and the choices that it leaves. Nothing is stored or sent."""
        asked = read_choices(visit)
        report, refusal, details = None, None, {}
        try:
            answer = await visit.call(CALL, query={**asked, "dry_run": "true"})
            report = msgspec.json.decode(answer.body)["data"]
        except InvalidRequestError as error:
            refusal, details = error.message, error.details or {}
        return visit.render(
            "upload/check.html",
            query=fill_choices(asked),
            report=report,
            refusal=refusal,
            details=details,
            reword=reword,
            calls=count_calls(report, asked),
            key=secrets.token_hex(16),
            **await _read_agent(visit, asked.get("agent_id", "")),
        )

    async def download_rejected(self, visit: Visit) -> Response:
        """The rows with errors of a file that is only checked."""
        return await visit.call("POST /v1/batch-call/rejected.csv", query=read_choices(visit))

    async def download_duplicates(self, visit: Visit) -> Response:
        """The rows of a file that is only checked whose person another row has."""
        return await visit.call("POST /v1/batch-call/duplicates.csv", query=read_choices(visit))

    async def send(self, visit: Visit) -> Response:
        """Uploads what was checked, once, and leads to its batch, or says what happened to those who may not see it.
        Without the tick, or without the key of the form, nothing is read or sent."""
        digest, key = visit.query.get("report_digest"), visit.request.headers.get("idempotency-key")
        if not digest or not key:
            raise InvalidRequestError("Tick first that these people will be called: nothing was sent")
        try:
            answer = await visit.call(CALL, query={**read_choices(visit), "report_digest": digest})
        except ApiError as error:
            if isinstance(error, ProviderError) and error.is_sent_unknown and visit.allows("read"):
                return _lead(visit, link("/console/uploads", {"state": "unknown"}))
            raise
        batch = msgspec.json.decode(answer.body)["data"]
        return _lead(visit, f"/console/batches/{batch['id']}") if visit.allows("read") else _confirm(visit, batch)


def read_choices(visit: Visit) -> dict[str, str]:
    """The fields of an upload in the page's address."""
    return {name: value for name, value in visit.query.items() if name in CHOICES}


def fill_choices(asked: dict[str, str]) -> dict[str, str | None]:
    """All choices, None for those that are not made."""
    return {name: asked.get(name) for name in CHOICES}


def count_calls(report: dict[str, Any] | None, asked: dict[str, str]) -> dict[str, Any]:
    """How many people are called ``now`` and ``later``, and what keeps the file from being sent: ``problem``."""
    if report is None:
        return {"now": 0, "later": 0, "problem": "unreadable"}
    total, test = report["recipients"], asked.get("test_recipients", "")
    size = int(test) if test.isascii() and test.isdecimal() else 0
    problem = None
    if report["columns_refused"]:
        problem = "columns"
    elif not report["valid"]:
        problem = "errors"
    elif report["earlier_upload"] and asked.get("force") != "true":
        problem = "repeated"
    elif size and size >= total:
        problem = "test"
    return {"now": size or total, "later": total - size if size else 0, "problem": problem}


async def _read_agent(visit: Visit, agent_id: str) -> dict[str, Any]:
    """The columns of the agent's files and whether it has a goal, where it has been used before."""
    columns = await _find(visit, "GET /v1/agents/{agent_id}/columns", agent_id)
    goal = await _find(visit, "GET /v1/agents/{agent_id}/goal", agent_id)
    return {"agent_columns": columns, "has_goal": goal is not None and goal["results"] is not None}


async def _find(visit: Visit, call: str, agent_id: str) -> Any:
    if not visit.allows("read") or not agent_id:
        return None
    try:
        return (await visit.read(call, agent_id=agent_id))["data"]
    except NotFoundError:
        return None


def _confirm(visit: Visit, batch: dict[str, Any]) -> Response:
    """What was sent, in place of the form. The same form again would get the same answer."""
    answer = visit.render("upload/sent_part.html" if visit.is_fragment else "upload/sent.html", batch=batch)
    if visit.is_fragment:
        answer.headers.update({"hx-retarget": "#upload", "hx-reswap": "outerHTML"})
    return answer


def _lead(visit: Visit, target: str) -> Response:
    """Leads the browser on, also one that waits for a part of the page."""
    if visit.is_fragment:
        return Response(status_code=204, headers={"hx-redirect": target})
    return RedirectResponse(target, 303)
