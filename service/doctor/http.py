"""The doctor over HTTP: the checks that a serving process can make of itself."""

import asyncio
import time
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.doctor.examination import Examination, Result
from service.doctor.findings import Level, Thresholds, unchecked
from service.doctor.report import make_report
from service.settings import Settings
from service.web.operations import Answer, Operation
from service.web.responses import JsonResponse, One, Time

CHECK_SECONDS = 5.0
LONGEST_SECONDS = 25.0
KEPT_SECONDS = 30.0
STATUSES = ("ok", "warning", "problem")


class ShownFinding(msgspec.Struct):
    """The result of a check."""

    check: str
    """``area.subject``."""
    level: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [level.value for level in Level]})]
    """``unchecked``: it could not be checked."""
    message: str
    remedy: str
    """What to do; empty where nothing needs to be done."""


class DoctorReport(msgspec.Struct):
    """The findings of all checks, and the worst of their levels."""

    status: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*STATUSES]})]
    version: str
    checked_at: Time
    counts: dict[str, int]
    findings: list[ShownFinding]


class Doctor:
    """Handler of ``GET /v1/doctor``. Everyone who asks within ``KEPT_SECONDS`` gets the same report, so asking often
    costs the database and the provider's budget no more."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._database_url = database_url
        self._examination: asyncio.Task[dict[str, Any]] | None = None
        self._began = 0.0

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/doctor", self.examine, "admin", "Operation",
                parameters=(), answers=(Answer(One[DoctorReport]),),
            ),
        ]  # fmt: skip

    async def examine(self, request: Request) -> Response:
        """What ``outcomes doctor`` finds, as far as a process can examine itself: not the names of settings and the
        modes of secret files, nor whether the service and its webhooks can be reached from outside. At most
        half a minute old."""
        task = self._examination
        if task is None or (task.done() and self._is_over(task)):
            self._began = time.monotonic()
            task = self._examination = asyncio.create_task(self._examine())
        # Shielded: others may wait for the same examination.
        return JsonResponse(One(msgspec.convert(await asyncio.shield(task), DoctorReport)))

    def _is_over(self, task: asyncio.Task[dict[str, Any]]) -> bool:
        is_failed = task.cancelled() or task.exception() is not None
        return is_failed or time.monotonic() - self._began > KEPT_SECONDS

    async def _examine(self) -> dict[str, Any]:
        results: list[Result] = []
        examination = Examination(
            environ=None,
            settings=self._settings,
            wrong_settings=[],
            database_url=self._database_url,
            service_url=None,
            webhook_url=None,
            thresholds=Thresholds(check_seconds=CHECK_SECONDS),
        )
        try:
            async with asyncio.timeout(LONGEST_SECONDS), aclosing(examination.run()) as found:
                async for result in found:
                    results.append(result)
        except TimeoutError:
            message = f"The checks after this took longer than {LONGEST_SECONDS:.0f} s and were left out"
            results.append(Result("doctor", unchecked(message, "Run `outcomes doctor`")))
        return make_report(results)
