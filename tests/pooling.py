"""A connection pooler in front of a test's Postgres, if pgbouncer is installed."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from service.store.database_url import SESSION
from tests.eventually import eventually
from tests.postgres import PostgresServer
from tests.provider import find_free_port

POOLER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_pooler = pytest.mark.skipif(POOLER is None, reason="needs pgbouncer (Debian: apt-get install pgbouncer)")


@asynccontextmanager
async def pool(
    server: PostgresServer, folder: Path, mode: str, *, ignored: Iterable[str] = SESSION, more: str = ""
) -> AsyncIterator[str]:
    """Runs pgbouncer in front of ``server``; yields its address without a database name.

    ``ignored`` are startup parameters that it drops; ``more`` is added to its settings.
    """
    port = find_free_port()
    user = server.folder.owner()
    (folder / "users.txt").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.folder}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\npool_mode = {mode}\n"
        f"ignore_startup_parameters = {', '.join(ignored)}\n{more}\n"
    )
    for path in (folder, *folder.parents[:2], *folder.iterdir()):
        path.chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        str(POOLER), "-q", *(["-u", user] if user != "root" else []), str(folder / "pgbouncer.ini"),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:

        async def is_listening() -> bool:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
            except OSError:
                return False
            return True

        await eventually(is_listening)
        yield f"postgresql://postgres@127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def set_defaults(url: str, **settings: str) -> None:
    """Sets defaults for new sessions in a database; the values are SQL text."""
    connection = await asyncpg.connect(url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        for setting, value in settings.items():
            await connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
    finally:
        await connection.close()
