"""Looks for a text in the whole database: every table, every column, as its schema lists them."""

from service.store.database import Database


async def find_everywhere(database: Database, *secrets: str) -> list[tuple[str, str, str]]:
    """Where each secret stands: its table, its column, and the secret."""
    columns = await database.pool.fetch(
        """
        SELECT format('%I.%I', c.table_schema, c.table_name) AS table_name, c.column_name, c.data_type
        FROM information_schema.columns AS c
        JOIN information_schema.tables AS t USING (table_schema, table_name)
        WHERE t.table_type = 'BASE TABLE' AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
        """
    )
    assert {"text", "bytea", "jsonb", "ARRAY"} <= {row["data_type"] for row in columns}
    found = []
    for table, column, data_type in columns:
        value = f'"{column}"' if data_type == "bytea" else f"convert_to(\"{column}\"::text, 'UTF8')"
        for secret in secrets:
            if await database.pool.fetchval(
                f"SELECT count(*) FROM {table} WHERE position($1::bytea IN {value}) > 0", secret.encode()
            ):
                found.append((table, column, secret))
    return found
