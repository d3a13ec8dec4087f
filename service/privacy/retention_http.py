"""What is kept for how long, over HTTP."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.privacy.retention import Retention
from service.web.operations import Answer, Operation
from service.web.responses import JsonResponse, Page, Time


class Kept(msgspec.Struct):
    """A kind of data, and how long it is kept."""

    kind: str
    """``bodies``, ``people``, ``quarantine``, ``audit``, ``snapshots`` or ``rejected_rows``."""
    keep_days: int
    """0: forever."""
    setting: str | None
    """The setting that says so; null: it is fixed."""
    last_deleted_at: Time | None
    """When data of this kind was last deleted; null: never since this has been recorded."""
    last_deleted: int | None
    """Rows of that pass; of bodies, steps."""


class RetentionSettings:
    """Handler of ``GET /v1/retention``."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/retention", self.list_kept, "admin", "Privacy",
                parameters=(), answers=(Answer(Page[Kept]),),
            ),
        ]  # fmt: skip

    async def list_kept(self, request: Request) -> Response:
        """How long each kind of data is kept, and when some was last deleted, in one page."""
        last = await self._retention.list_deletions()
        kept = [
            Kept(
                kind,
                days,
                None if kind == "rejected_rows" else f"OUTCOMES_KEEP_{kind.upper()}_DAYS",
                last[kind]["deleted_at"] if kind in last else None,
                last[kind]["deleted"] if kind in last else None,
            )
            for kind, days in self._retention.keep_days.items()
        ]
        return JsonResponse(Page(kept, None, has_more=False))
