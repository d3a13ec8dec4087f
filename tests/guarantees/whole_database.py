"""Searches for texts in the whole database: every column of every table in its schema."""

from service.store.database import Database


async def find_everywhere(database: Database, *secrets: str) -> list[tuple[str, str, str]]:
    """Each place where a secret is stored: table, column and secret."""
    tables = await database.pool.fetch(
        """
        SELECT format('%I.%I', c.table_schema, c.table_name) AS name,
               array_agg(c.data_type::text) AS types,
               string_agg(format(CASE WHEN c.data_type = 'bytea' THEN '(%1$L, %1$I)'
                                      ELSE '(%1$L, convert_to(%1$I::text, ''UTF8''))' END, c.column_name),
                          ', ') AS columns
        FROM information_schema.columns AS c
        JOIN information_schema.tables AS t USING (table_schema, table_name)
        WHERE t.table_type = 'BASE TABLE' AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
        GROUP BY 1
        """
    )
    assert {"text", "bytea", "jsonb", "ARRAY"} <= {each for table in tables for each in table["types"]}
    found = []
    for table in tables:
        rows = await database.pool.fetch(
            f"SELECT DISTINCT c.name, s.secret FROM {table['name']} CROSS JOIN LATERAL (VALUES {table['columns']}) "
            "AS c (name, value) JOIN unnest($1::bytea[]) AS s (secret) ON position(s.secret IN c.value) > 0",
            [secret.encode() for secret in secrets],
        )
        found += [(table["name"], row["name"], row["secret"].decode()) for row in rows]
    return found
