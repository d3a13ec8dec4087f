"""How BI tools reach the database, over HTTP: its address and the roles for them, and nothing secret."""

from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.store.bi_roles import ROLES
from service.store.database import Database
from service.web.operations import Answer, Operation
from service.web.responses import JsonResponse, One

PORT = "5432"


class BiRole(msgspec.Struct):
    """A role for BI tools."""

    name: str
    schema: str
    """The schema of views that it reads."""
    is_made: bool
    """Whether it exists; `outcomes bi role` makes it."""


class BiAccess(msgspec.Struct):
    """Where a BI tool connects to, as far as this service knows: it may have another address elsewhere."""

    host: str
    """A name or address; or a folder, for the socket of an embedded Postgres."""
    port: str
    database: str
    ssl_mode: str | None
    is_local: bool
    """Whether only programs on the service's machine can reach it."""
    roles: list[BiRole]


class Bi:
    """Handler of ``GET /v1/bi``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/bi", self.show, "read", "Exports",
                parameters=(), answers=(Answer(One[BiAccess]),),
            ),
        ]  # fmt: skip

    async def show(self, request: Request) -> Response:
        """Where BI tools connect to: the database's address and the roles made for them. No user of the service and no
        password is named."""
        host, port, ssl_mode = find_address(self._database.url)
        queries, pool = self._database.queries, self._database.pool
        made = {row["role"] async for row in queries.list_made_roles(pool, roles=list(ROLES))}
        schemas = dict(zip(ROLES, ("bi", "bi_full"), strict=True))
        roles = [BiRole(role, schemas[role], role in made) for role in ROLES]
        database = await queries.get_database_name(pool)
        is_local = host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}
        return JsonResponse(One(BiAccess(host, port, database, ssl_mode, is_local, roles)))


def find_address(url: str) -> tuple[str, str, str | None]:
    """The first host of a database URL, its port, and the URL's sslmode."""
    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    address = unquote(parts.netloc.rpartition("@")[2]).split(",")[0]
    host, port = address, ""
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in address:
        host, _, port = address.rpartition(":")
    host = given.get("host", host).split(",")[0] or "localhost"
    return host, given.get("port", port).split(",")[0] or PORT, given.get("sslmode")
