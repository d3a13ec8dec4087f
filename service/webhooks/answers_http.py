"""Webhooks of the last hour over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.web.operations import Answer, Operation
from service.web.responses import JsonResponse, One, Time
from service.webhooks.answers import AnswerRecorder

ANSWERS = (
    "stored", "authentication_error", "not_found", "invalid_request", "too_large", "overloaded", "unavailable",
    "disconnected", "failed",
)  # fmt: skip


class WebhookCount(msgspec.Struct):
    """The webhooks of a target with one answer."""

    target: str
    """``unknown``: the path named a target that does not exist."""
    answer: Annotated[str, msgspec.Meta(extra_json_schema={"examples": [*ANSWERS]})]
    """``stored``: 204. The others were not stored."""
    requests: int
    last_at: Time
    """The minute of the last one."""


class WebhookSummary(msgspec.Struct):
    """Webhooks since ``since``, in all replicas. A replica reports every few seconds."""

    since: Time
    as_of: Time
    total: int
    counts: list[WebhookCount]


class WebhookAnswers:
    """Handler of ``GET /v1/webhooks/summary``."""

    def __init__(self, recorder: AnswerRecorder) -> None:
        self._recorder = recorder

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/webhooks/summary", self.summarise, "read", "Operation",
                parameters=(), answers=(Answer(One[WebhookSummary]),),
            ),
        ]  # fmt: skip

    async def summarise(self, request: Request) -> Response:
        """Webhook requests of the last hour by target and answer."""
        await self._recorder.record()
        counts = [WebhookCount(**row) for row in await self._recorder.list()]
        now = datetime.now(UTC)
        since = now - timedelta(hours=1)
        return JsonResponse(One(WebhookSummary(since, now, sum(each.requests for each in counts), counts)))
