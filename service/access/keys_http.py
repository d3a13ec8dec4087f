"""API keys over HTTP."""

from datetime import timedelta
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.access.keys import Keys
from service.errors import ConflictError, NotFoundError, PermissionDeniedError
from service.web.operations import Answer, Json, Operation
from service.web.parameters import Id, read_json
from service.web.responses import JsonResponse, One, Page, Time
from service.web.scopes import Scope, allows, granted_scopes

EXAMPLE = '{"name": "crm", "scopes": ["feed"], "expires_in_days": 90}'
KEY_ID = Id("key_id", "live key", "The id from `GET /v1/keys`")
MAX_DAYS = 3650


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key to make."""

    name: str
    """1 to 80 letters, digits, spaces and . _ @ / -"""
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=10)]
    """Each of them must be among the caller's own."""
    expires_in_days: Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS)] | None = None
    """Null: it does not expire."""


class CreatedApiKey(msgspec.Struct):
    """A new key. ``key`` is shown only here."""

    key_id: int
    name: str
    hint: str
    """Its first characters."""
    scopes: list[str]
    created_at: Time
    expires_at: Time | None
    key: str


class ApiKey(msgspec.Struct):
    """A key, without anything that grants access."""

    key_id: int
    name: str
    hint: str
    """Its first characters."""
    scopes: list[str]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None
    """To the minute."""
    is_live: bool
    """Neither revoked nor expired."""


class ApiKeys:
    """Handlers of ``/v1/keys``."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/v1/keys", self.list_keys, "admin", "Keys",
                parameters=(), answers=(Answer(Page[ApiKey]),),
            ),
            Operation(
                "POST", "/v1/keys", self.create, "admin", "Keys",
                parameters=(), bodies=(Json(NewKey, f"Such as `{EXAMPLE}`"),),
                answers=(Answer(One[CreatedApiKey], "Made", 201),), errors=(ConflictError, PermissionDeniedError),
            ),
            Operation(
                "DELETE", "/v1/keys/{key_id}", self.revoke, "admin", "Keys",
                parameters=(KEY_ID,), answers=(Answer(None, "It is refused everywhere within seconds", 204),),
                errors=(NotFoundError,),
            ),
        ]  # fmt: skip

    async def list_keys(self, request: Request) -> Response:
        """All keys, also revoked and expired ones, newest first, in one page. The key of OUTCOMES_API_KEY is not among
        them."""
        return JsonResponse(Page([ApiKey(**row) for row in await self._keys.list()], None, has_more=False))

    async def create(self, request: Request) -> Response:
        """Makes a key, and shows it once. It can never allow more than the key that makes it."""
        new = await read_json(request, NewKey, EXAMPLE)
        granted = granted_scopes(request)
        if beyond := [scope for scope in new.scopes if not allows(granted, scope)]:
            raise PermissionDeniedError(f"scopes: yours do not include {', '.join(beyond)}, so no key of yours can")
        lifetime = timedelta(days=new.expires_in_days) if new.expires_in_days is not None else None
        made = await self._keys.create(new.name, tuple(new.scopes), lifetime)
        return JsonResponse(One(CreatedApiKey(**made.row, key=made.key)), status_code=201)

    async def revoke(self, request: Request) -> Response:
        """Revokes a key for good."""
        await self._keys.revoke(str(KEY_ID.read(request)))
        return Response(status_code=204)
