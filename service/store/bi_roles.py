"""The roles that BI tools connect as: created, repaired, and checked for rights that they must not have.

Roles belong to the whole cluster and need CREATEROLE, which the service's own role may lack. What each may read is
granted by ``grant_bi_reading``, which a migration calls too, so that new views are seen at once.
"""

import base64
import hashlib
import hmac
import secrets
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from service.errors import ConfigurationError, DatabaseError
from service.store.database import Connection, load_queries

ROLES = ("bi_reader", "bi_reader_full")
SCRAM_ITERATIONS = 4096
SALT_BYTES = 16


def to_scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What Postgres stores of a password (RFC 5803), computed here so that no statement or server log contains it.

    Raises ConfigurationError for characters that would have to be normalised first (RFC 4013).
    """
    if not (password.isascii() and password.isprintable()):
        raise ConfigurationError("OUTCOMES_BI_PASSWORD takes printable ASCII characters only")
    salt = salt or secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


async def list_role_changes(
    connection: Connection, role: str, *, connections: int, statement_seconds: int, verifier: str | None
) -> list[str]:
    """The statements that create or repair ``role``, in their order; none if it is correct."""
    rows = load_queries().list_bi_role_changes(
        connection, role=role, connections=connections, statement_seconds=statement_seconds, verifier=verifier
    )
    return [row["statement"] async for row in rows]


async def list_role_bounds(connection: Connection, role: str) -> list[str]:
    """The statements that limit the resources of ``role`` and have not been run yet."""
    return [row["statement"] async for row in load_queries().list_bi_role_bounds(connection, role=role)]


class SetUp(NamedTuple):
    """The result of setting up a role."""

    is_changed: bool
    """Whether anything but grants was done."""
    unbounded: list[str]
    """Statements that our own role may not run: the owner of the database or a superuser should."""


async def set_up_role(
    connection: Connection, role: str, *, connections: int, statement_seconds: int, password: str
) -> SetUp:
    """Creates or repairs ``role``, grants it its schemas, and limits its resources as far as our own role may.

    An empty password keeps the present one. Raises DatabaseError, with what an administrator should run, if our own
    role may not do it, and with what to revoke if the role could read or write more than it should.
    """
    changes = await list_role_changes(
        connection,
        role,
        connections=connections,
        statement_seconds=statement_seconds,
        verifier=to_scram_verifier(password) if password else None,
    )
    try:
        async with connection.transaction():
            for statement in changes:
                await connection.execute(statement)
            await load_queries().grant_bi_reading(connection)
            excess = [row["excess"] async for row in load_queries().list_bi_role_excess(connection, role=role)]
            if excess:
                raise DatabaseError(
                    f"{role} is left as it was, since it {', '.join(excess[:3])}, which a BI role must not: "
                    "revoke that (also from PUBLIC and from the roles it is a member of) and run this again"
                )
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"The role of OUTCOMES_DATABASE_URL may not create {role} ({error}): give it CREATEROLE, or have an "
            "administrator run what `outcomes bi role --print` prints, and then run this again without "
            "OUTCOMES_BI_PASSWORD"
        ) from error
    return SetUp(bool(changes), await _bound_role(connection, role))


async def _bound_role(connection: Connection, role: str) -> list[str]:
    """Runs the limits that our role may set; returns the statements that are left."""
    for statement in await list_role_bounds(connection, role):
        with suppress(asyncpg.InsufficientPrivilegeError):  # some are refused with a warning only
            await connection.execute(statement)
    return await list_role_bounds(connection, role)


async def set_shown(connection: Connection, kind: str, names: tuple[str, ...], *, is_shown: bool) -> list[str]:
    """Shows or hides call parameters (``kind`` parameter) or results; returns all exceptions now in force, as text.

    Raises ConfigurationError for a pattern, except of results to hide: only names that were reviewed are shown, and
    parameters are hidden anyway.
    """
    if patterns := [name for name in names if "*" in name and (is_shown or kind == "parameter")]:
        raise ConfigurationError(f"{patterns[0]!r} is a pattern, which only bi hide --result takes: give whole names")
    async with connection.transaction():
        for name in names:
            await load_queries().set_bi_field(connection, kind=kind, name=name, is_shown=is_shown)
    return await _list_exceptions(connection)


async def set_closed(connection: Connection, agent_id: int, *, is_closed: bool) -> list[str]:
    """Hides all results of an agent that are not shown by name, or no longer does; returns like ``set_shown``."""
    if is_closed:
        await load_queries().close_bi_agent(connection, agent_id=agent_id)
    else:
        await load_queries().open_bi_agent(connection, agent_id=agent_id)
    return await _list_exceptions(connection)


async def _list_exceptions(connection: Connection) -> list[str]:
    queries = load_queries()
    agents = [row["agent_id"] async for row in queries.list_bi_closed_agents(connection)]
    return [
        *[
            f"{row['kind']} {row['name']}: {'shown' if row['is_shown'] else 'hidden'}"
            async for row in queries.list_bi_fields(connection)
        ],
        *(f"results of agent {agent_id}: hidden unless shown by name" for agent_id in agents),
    ]
