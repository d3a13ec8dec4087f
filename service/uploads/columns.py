"""The column contract: an agent's first uploaded file fixes its columns, because prompts, webhooks and CRM mappings use
the names. A later file that differs is refused with the difference, unless the caller accepts the new columns."""

import msgspec
from asyncpg import Pool

from service.access.audit import record_audit
from service.errors import InvalidRequestError
from service.spelling import MEANT, find_near
from service.store.database import Connection, Database


class ColumnDifference(msgspec.Struct):
    """How a file's columns differ from the agent's. ``renamed`` maps a new name to the missing one it resembles."""

    renamed: dict[str, str]
    missing: list[str]
    added: list[str]

    def __bool__(self) -> bool:
        return bool(self.renamed or self.missing or self.added)

    def describe(self) -> str:
        parts = [f"{found!r}: did you mean {meant!r}?" for found, meant in self.renamed.items()]
        parts += [f"{name!r} is missing" for name in self.missing]
        parts += [f"{name!r} is new" for name in self.added]
        return "; ".join(parts)


def compare_columns(binding: list[str], columns: list[str]) -> ColumnDifference:
    """How a file's ``columns`` differ from the ``binding`` ones; their order does not matter."""
    missing = [name for name in binding if name not in columns]
    added = [name for name in columns if name not in binding]
    renamed: dict[str, str] = {}
    for name in added:
        meant = find_near(name, [candidate for candidate in missing if candidate not in renamed.values()], MEANT)
        if meant is not None:
            renamed[name] = meant
    return ColumnDifference(
        renamed=renamed,
        missing=[name for name in missing if name not in renamed.values()],
        added=[name for name in added if name not in renamed],
    )


async def check_columns(
    database: Database, connection: Connection | Pool, agent_id: int, columns: list[str], *, accept: bool
) -> bool:
    """Whether ``columns`` are new for the agent. Raises InvalidRequestError with the difference, unless it is
    accepted."""
    binding = await database.queries.get_agent_columns(connection, agent_id=agent_id)
    difference = compare_columns(binding["columns"], columns) if binding else None
    if difference is None or (difference and accept):
        return True
    if not difference:
        return False
    raise InvalidRequestError(
        f"file: its columns are not those of agent {agent_id}: {difference.describe()}. Correct the file, or send "
        f"accept_columns=true to replace the agent's columns (GET /v1/agents/{agent_id}/columns shows them)",
        details={"columns": difference},
    )


async def bind_columns(
    database: Database, connection: Connection, agent_id: int, columns: list[str], batch_key: int, *, accept: bool
) -> None:
    """Checks again and records new columns. Call it in the transaction that stores the recipients."""
    await database.queries.lock_agent_columns(connection, agent_id=agent_id)
    if await check_columns(database, connection, agent_id, columns, accept=accept):
        version = await database.queries.insert_agent_columns(
            connection, agent_id=agent_id, columns=columns, batch_key=batch_key
        )
        await record_audit(
            database, connection, "columns_changed", f"agent {agent_id}", "changed", version=version,
            upload_id=batch_key,
        )  # fmt: skip
