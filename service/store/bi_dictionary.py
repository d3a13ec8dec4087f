"""The data dictionary of the BI schema: a page made from the comments that the views carry in a migrated database.

``make dictionary`` writes it to ``sql/bi/DICTIONARY.md``; a test holds the two equal.
"""

import asyncio
import tempfile
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from service.store.database import Connection, connect, load_queries
from service.store.embedded import run_embedded_postgres
from service.store.migrations import migrate
from service.store.sql_files import find_sql_folder

PAGE = find_sql_folder() / "bi" / "DICTIONARY.md"
HEAD = """\
# Data dictionary

Made by `make dictionary` from the comments in the database; a change belongs into `sql/bi/*.sql`. The views stand in
two schemas: `bi`, which the role `bi_reader` reads, has no phones and no call parameters; `bi_full`, for
`bi_reader_full`, has them. Where a column says something else in `bi_full`, that is told after a dash. Columns are
never changed or taken away; new ones come at the end of a view.
"""


async def write_dictionary(connection: Connection) -> str:
    """The page, as Markdown."""
    rows = [row async for row in load_queries().list_bi_columns(connection)]
    full = {(row["view"], row["name"]): row["comment"] for row in rows if row["schema"] == "bi_full"}
    lines = [HEAD]
    for (view, comment), columns in groupby(
        (row for row in rows if row["schema"] == "bi"), key=itemgetter("view", "view_comment")
    ):
        lines += [f"## {view}", "", comment, "", "| column | type | |", "|---|---|---|"]
        for column in columns:
            whole = full[view, column["name"]]
            told = column["comment"] if whole == column["comment"] else f"{column['comment']} — `bi_full`: {whole}"
            lines.append(f"| `{column['name']}` | {column['type']} | {told.replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)


async def _make_dictionary(url: str) -> str:
    connection = await connect(url)
    try:
        await migrate(connection)
        return await write_dictionary(connection)
    finally:
        await connection.close()


def main() -> None:
    """Writes the page from a fresh database of its own."""
    with tempfile.TemporaryDirectory() as folder, run_embedded_postgres(Path(folder)) as url:
        PAGE.write_text(asyncio.run(_make_dictionary(url)))


if __name__ == "__main__":
    main()
