"""Shared fixtures: one real Postgres, a database for each test, and the service over HTTP."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import structlog

from service.app import DEFAULT_BACKLOG_LIMITS, open_app, prepare_schema
from service.server.limits import DEFAULT_CONNECTION_LIMITS, ConnectionLimits
from service.server.process import serve_in_background
from service.settings import read_settings
from service.store.database import Database, open_database
from service.webhooks.backlog import BacklogLimits
from tests.certificates import share_authorities
from tests.postgres import PostgresServer, find_memory, find_programs

pytest_plugins = ["tests.guarantees.damage"]

API_KEY = "test-key"
SECRET = "test-secret"
LONG = Path(__file__).with_name("long.txt")

# structlog's default traceback, with the values of all variables, blocks the loop for seconds.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ],
    # pytest swaps and closes sys.stdout between the phases of a test while a service in another thread may log.
    logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
)


share_authorities()

_numbers = itertools.count(1)


def pytest_configure() -> None:
    """Makes the date the seed of random histories, the same for all workers even past midnight. A job in the background
    of a shell ignores Ctrl-C; the programs that its tests start do not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("HISTORIES_SEED", datetime.now(UTC).strftime("%Y%m%d"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of ``long.txt``, which names files and functions."""
    long = set(LONG.read_text().split())
    for item in items:
        name = item.originalname if isinstance(item, pytest.Function) else item.name
        path = item.path.relative_to(LONG.parents[1]).as_posix()
        if path in long or f"{path}::{name}" in long:
            item.add_marker(pytest.mark.long)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prints the seed in the process with a terminal reporter, even with ``-q``."""
    if (terminal := session.config.pluginmanager.get_plugin("terminalreporter")) is not None:
        terminal.write_line(f"HISTORIES_SEED={os.environ['HISTORIES_SEED']}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that the tests share; a test that stops or kills a server uses ``own_postgres``."""
    server = PostgresServer(find_programs(), parent=find_memory())
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A separate server that the test may stop or kill."""
    server = PostgresServer(find_programs())
    server.start()
    yield server
    server.remove()


@pytest.fixture
def small_disk(own_postgres: PostgresServer) -> Iterator[Path]:
    """A file system of 8 MB for the server; skips if this machine cannot mount one."""
    folder = own_postgres.folder / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    space = folder / "space"
    space.mkdir()
    own_postgres.own(space)
    yield space
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def create_database(server: PostgresServer, template: str) -> str:
    """Makes a new database; returns its URL."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    finally:
        await connection.close()
    return server.url(name)


async def drop_database(server: PostgresServer, url: str) -> None:
    """Removes a database that ``create_database`` made."""
    name = urlsplit(url).path[1:]
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


class Clones:
    """Databases cloned from one template; a separate thread clones one ahead and drops those given back."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner()
        self._connection = self._run(asyncpg.connect, server.url("postgres")).result()
        self._next = self._clone()
        self._drops: list[Future[Any]] = []

    def take(self) -> str:
        """Returns the URL of an unused clone."""
        taken, self._next = self._next, self._clone()
        return taken.result()

    def give_back(self, url: str) -> None:
        """Drops a clone, even with open connections."""
        self._drops.append(self._run(self._connection.execute, f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)"))

    def close(self) -> None:
        """Waits for the drops; raises if one failed."""
        self._run(self._connection.close).result()
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()
        for drop in self._drops:
            drop.result()

    def _clone(self) -> Future[str]:
        name = f"test_{next(_numbers)}"

        async def clone() -> str:
            await self._connection.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
            return self._server.url(name)

        return self._run(clone)

    def _run(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Future[Any]:
        return self._thread.submit(lambda: self._runner.run(function(*arguments)))


@pytest.fixture(scope="session")
def empty_clones(postgres: PostgresServer) -> Iterator[Clones]:
    """Databases without a schema."""
    clones = Clones(postgres, "template0")
    yield clones
    clones.close()


@pytest.fixture(scope="session")
def clones(postgres: PostgresServer) -> Iterator[Clones]:
    """Databases with the schema, cloned from a template that was migrated once."""

    async def migrate() -> str:
        url = await create_database(postgres, "template0")
        await prepare_schema(url, may_migrate=True)
        return urlsplit(url).path[1:]

    clones = Clones(postgres, asyncio.run(migrate()))
    yield clones
    clones.close()


@pytest.fixture
def empty_database_url(empty_clones: Clones) -> Iterator[str]:
    """A database without a schema."""
    url = empty_clones.take()
    yield url
    empty_clones.give_back(url)


@pytest.fixture
def database_url(clones: Clones) -> Iterator[str]:
    """A database with the schema."""
    url = clones.take()
    yield url
    clones.give_back(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, opened."""
    async with open_database(database_url, allow_unsafe=False) as opened:
        yield opened


class StartService(Protocol):
    """Starts a service in this process; keyword arguments are settings by their environment names."""

    def __call__(
        self, backlog_limits: BacklogLimits = DEFAULT_BACKLOG_LIMITS, port: int = 0, /, **settings: str
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]: ...


@pytest.fixture
def start_service(database_url: str) -> StartService:
    """Starts the service on the test's database and a free port; yields a client with the API key."""
    return make_starter(database_url)


def make_starter(database_url: str, connection_limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS) -> StartService:
    """Like ``start_service``, for a given database and connection limits."""

    @asynccontextmanager
    async def start(
        backlog_limits: BacklogLimits = DEFAULT_BACKLOG_LIMITS, port: int = 0, /, **settings: str
    ) -> AsyncIterator[httpx.AsyncClient]:
        environ: dict[str, Any] = {
            "OUTCOMES_DATABASE_URL": database_url,
            "OUTCOMES_API_KEY": API_KEY,
            "FORMANT_WEBHOOK_SECRET": SECRET,
            "OUTCOMES_RECONCILE_SECONDS": "0",  # tests that need the loops set it
            **settings,
        }
        configured = read_settings(environ)
        async with (
            open_app(configured, configured.database_url, backlog_limits, connection_limits) as service,
            serve_in_background(service, "127.0.0.1", port) as bound,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{bound}", headers={"authorization": f"Bearer {API_KEY}"}, timeout=30.0
            ) as client,
        ):
            yield client

    return start


@pytest.fixture
async def service(start_service: StartService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service with default settings."""
    async with start_service() as client:
        yield client
