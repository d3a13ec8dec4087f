"""Quarantined bodies over HTTP: one as it came, and the replay of many."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.access.audit import record_audit
from service.errors import NotFoundError
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.parameters import Id, Number
from service.web.responses import JsonResponse, One
from service.webhooks.quarantine import Replayer

QUARANTINE_ID = Id("quarantine_id", "quarantined body", "The id from `GET /v1/quarantine`")
LIMIT = Number("limit", "Maximum number of bodies", default=100, minimum=1, maximum=500)
AFTER = Number("after", "`next` of the previous answer", default=0, minimum=0, maximum=2**63 - 1)


class ReplayedBodies(msgspec.Struct):
    """What became of the bodies that were replayed. Go on with ``after`` = ``next``, unless it is null."""

    replayed: int
    """Bodies that are events now."""
    kept: int
    """Bodies that still cannot be used, and stay."""
    next: int | None


class QuarantinedBodies:
    """Handlers of ``/v1/quarantine/{quarantine_id}/body`` and ``/v1/quarantine/replay``."""

    def __init__(self, database: Database, replayer: Replayer) -> None:
        self._database = database
        self._replayer = replayer

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/quarantine/{quarantine_id}/body", self.get_body, "admin", "Events",
                parameters=(QUARANTINE_ID,),
                answers=(Answer(str, "The body, byte for byte", media_type="application/octet-stream"),),
            ),
            Operation(
                "POST", "/v1/quarantine/replay", self.replay_all, "admin", "Events",
                parameters=(LIMIT, AFTER), answers=(Answer(One[ReplayedBodies]),),
            ),
        ]  # fmt: skip

    async def get_body(self, request: Request) -> Response:
        """A quarantined body as it was received. It may name people, so the audit log records who read it."""
        quarantine_id = QUARANTINE_ID.read(request)
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await self._database.queries.read_quarantined(connection, quarantine_id=quarantine_id)
            if row is None:
                raise NotFoundError(f"There is no quarantined body {quarantine_id}: see GET /v1/quarantine")
            subject = f"quarantined {quarantine_id}"
            await record_audit(self._database, connection, "quarantine_read", subject, "shown")
        headers = {"content-disposition": f'attachment; filename="quarantined-{quarantine_id}.bin"'}
        return Response(row["body"], media_type="application/octet-stream", headers=headers)

    async def replay_all(self, request: Request) -> Response:
        """Processes quarantined bodies again, oldest first. Those that still cannot be used stay."""
        limit, after = LIMIT.read(request), AFTER.read(request)
        page = self._database.queries.list_quarantine(self._database.pool, after=after, limit=limit + 1)
        ids = [row["quarantine_id"] async for row in page]
        replayed = 0
        for quarantine_id in ids[:limit]:
            replayed += await self._replay(quarantine_id)
        following = ids[limit - 1] if len(ids) > limit else None
        return JsonResponse(One(ReplayedBodies(replayed, min(len(ids), limit) - replayed, following)))

    async def _replay(self, quarantine_id: int) -> bool:
        """Whether the body is an event now; another replica may have replayed it meanwhile."""
        try:
            return await self._replayer.replay(quarantine_id) is not None
        except NotFoundError:
            return True
