"""The column contract of each agent, kept in the database with its history."""

from asyncpg import Pool

from service.access.audit import record_audit
from service.errors import InvalidRequestError
from service.store.database import Connection, Database
from service.uploads.columns import compare_columns


class ColumnContracts:
    """Checks files against their agent's columns, and records new ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(
        self, connection: Connection | Pool, agent_id: int, columns: list[str], *, accept: bool
    ) -> int | None:
        """The version under which ``columns`` are to be recorded, or None when they are those that bind already.

        Raises InvalidRequestError with the difference, unless it is accepted.
        """
        binding = await self._database.queries.get_agent_columns(connection, agent_id=agent_id)
        if binding is None:
            return 1
        difference = compare_columns(binding["columns"], columns)
        if not difference:
            return None
        if accept:
            return int(binding["version"]) + 1
        raise InvalidRequestError(
            f"file: its columns are not those of agent {agent_id}: {difference.describe()}. Mend the file, or send "
            f"accept_columns=true to make them the agent's from now on (GET /v1/agents/{agent_id}/columns shows those)",
            details={"columns": difference},
        )

    async def bind(
        self, connection: Connection, agent_id: int, columns: list[str], batch_key: int, *, accept: bool
    ) -> None:
        """Checks once more, and records what is new; to be called in the transaction that stores the recipients."""
        await self._database.queries.lock_agent_columns(connection, agent_id=agent_id)
        version = await self.check(connection, agent_id, columns, accept=accept)
        if version is not None:
            await self._database.queries.insert_agent_columns(
                connection, agent_id=agent_id, version=version, columns=columns, batch_key=batch_key
            )
            await record_audit(
                self._database, connection, "columns_changed", f"agent {agent_id}", "changed",
                version=version, upload_id=batch_key,
            )  # fmt: skip
