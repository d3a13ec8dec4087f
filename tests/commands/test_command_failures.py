"""Whatever a user can do wrong, every command answers in one line with the remedy, and ends with 1 or 2."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg
import click
import pytest

from service.cli import outcomes
from tests.commands.refusing import find_commands
from tests.conftest import create_database, drop_database
from tests.pooling import needs_pooler, pool
from tests.postgres import PostgresServer
from tests.processes import OUTCOMES, Finished, make_environ, run, run_in

PHONES = str(Path(__file__).parents[1] / "uploads" / "cases" / "apostrophe.csv")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "serve": (),
    "migrate": (),
    "grant-service": ("nobody",),
    "doctor": ("--no-service",),
    "demo": ("--exit", "--recipients", "1", "--speed", "4000"),
    "reconcile": ("456",),
    "verify": (),
    "rebuild": (),
    "reattribute": (),
    "repair": (),
    "replay": (),
    "batches resolve": ("1", "--not-sent"),
    "keys create": ("name",),
    "keys list": (),
    "keys revoke": ("name",),
    "erase": ("+919876543210",),
    "erasures list": (),
    "erasures repeat": (os.devnull,),
    "restart-feed": (),
    "suppress": (PHONES, "--reason", "asked"),
    "spill status": (),
    "spill off": (),
    "spill lost": ("--yes",),
    "bi role": (),
    "bi show": ("city",),
    "bi hide": ("city",),
}
"""Every command that uses the database, and how it is called."""
OTHERS = {"crm-sync", "sandbox"}
MAKERS = {"serve", "migrate", "demo"}
"""They make an embedded Postgres and the schema."""
USUAL = {"FORMANT_API_KEY": "key", "FORMANT_BASE_URL": "http://127.0.0.1:1"}
AT_ONCE = 4

pytestmark = pytest.mark.timeout(300)


def test_the_table_names_every_command() -> None:
    commands = {" ".join(path) for path, command in find_commands(outcomes) if not isinstance(command, click.Group)}
    assert commands == ARGUMENTS.keys() | OTHERS


async def call(names: Iterable[str], **settings: str) -> dict[str, Finished]:
    """What came of each command, each with a data folder of its own: beside a demo they would use its settings."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def call_one(name: str) -> Finished:
        async with turns:
            with TemporaryDirectory() as folder:
                own = {"OUTCOMES_DATA_DIR": folder}
                return await run(OUTCOMES, *name.split(), *ARGUMENTS[name], **USUAL | own | settings)

    names = sorted(names)
    return dict(zip(names, await asyncio.gather(*map(call_one, names)), strict=True))


def assert_explained(name: str, finished: Finished, *words: str) -> None:
    """Checks that it failed with one line that has the words; doctor reports it as one of its findings."""
    assert "Traceback" not in finished.output + finished.errors, (name, finished)
    if name == "doctor":
        assert (finished.status, finished.errors) == (1, "")
        assert any(line.startswith("problem ") for line in finished.output.splitlines()), finished
        return
    # The service is for a log collector.
    lines = [line for line in finished.errors.splitlines() if line and not (name == "serve" and line.startswith('{"'))]
    assert (finished.status, len(lines)) == (2, 1), (name, finished)
    assert lines[0].startswith("outcomes: "), (name, finished)
    assert [word for word in words if word not in lines[0]] == [], (name, finished)


async def test_a_database_that_is_away() -> None:
    url = "postgresql://bob:pass-word@127.0.0.1:1/x"
    for name, finished in (await call(ARGUMENTS, OUTCOMES_DATABASE_URL=url)).items():
        assert_explained(
            name, finished, "The database does not answer (Connection refused)", "check OUTCOMES_DATABASE_URL"
        )
        assert "pass-word" not in finished.output + finished.errors


async def test_an_address_of_something_else() -> None:
    for name, finished in (await call(ARGUMENTS, OUTCOMES_DATABASE_URL="mysql://bob:pass-word@db/x")).items():
        assert_explained(name, finished, "OUTCOMES_DATABASE_URL cannot be read: it takes postgresql://")
        assert "pass-word" not in finished.output + finished.errors


async def test_a_database_without_a_schema(empty_database_url: str) -> None:
    names = ARGUMENTS.keys() - MAKERS
    for name, finished in (await call(names, OUTCOMES_DATABASE_URL=empty_database_url)).items():
        assert_explained(name, finished, "run `outcomes migrate`")


@contextlib.asynccontextmanager
async def make_role(url: str, name: str, *, more: str = "") -> AsyncIterator[str]:
    """The address of the database by another role."""
    role = f"{name}_{urlsplit(url).path[1:]}"
    owner = await asyncpg.connect(url)
    await owner.execute(f"CREATE ROLE {role} LOGIN; {more.format(role=role)}")
    try:
        yield url.replace("//postgres@", f"//{role}@")
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


async def test_a_role_without_any_right(database_url: str) -> None:
    async with make_role(database_url, "stranger") as url:
        for name, finished in (await call(ARGUMENTS, OUTCOMES_DATABASE_URL=url)).items():
            assert_explained(name, finished, "role")


async def test_a_role_that_may_only_read(database_url: str) -> None:
    reads = {"erasures list", "keys list", "verify", "migrate", "spill status"}
    idle = {"rebuild", "replay", "repair"}  # there is nothing to do
    async with make_role(database_url, "reader", more="GRANT pg_read_all_data TO {role}") as url:
        for name, finished in (await call(ARGUMENTS.keys() - {"doctor"}, OUTCOMES_DATABASE_URL=url)).items():
            if finished.status == 0:
                assert name in reads | idle
                assert finished.errors == "" or name == "verify"  # which shows how far it is
            elif "There is no" not in finished.errors:  # batch, upload or role
                assert_explained(name, finished, "role")


@needs_pooler
async def test_a_pooler_that_shares_servers(postgres: PostgresServer, tmp_path: Path) -> None:
    url = await create_database(postgres, "template0")
    async with pool(postgres, tmp_path, "transaction") as pooled:
        for name, finished in (await call(ARGUMENTS, OUTCOMES_DATABASE_URL=f"{pooled}{urlsplit(url).path}")).items():
            assert_explained(name, finished, "pooler", "session")
    await drop_database(postgres, url)


async def test_a_folder_without_a_database_stays_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, finished in (await call(ARGUMENTS.keys() - MAKERS - {"doctor"}, OUTCOMES_DATA_DIR=str(data))).items():
        assert_explained(
            name, finished, f"There is no database in {data}", "OUTCOMES_DATA_DIR", "OUTCOMES_DATABASE_URL"
        )
    assert not data.exists()


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (f"{tmp_path}/file", f"{tmp_path}/file/data", "/proc/data"):  # nobody may write to the last
        for name, finished in (await call(MAKERS, OUTCOMES_DATA_DIR=folder)).items():
            assert_explained(name, finished, f"OUTCOMES_DATA_DIR: {folder} cannot be used (", "OUTCOMES_DATABASE_URL")


async def test_a_port_in_use(database_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        report = await call({"serve", "demo"}, OUTCOMES_DATABASE_URL=database_url, OUTCOMES_PORT=port)
        for name, finished in report.items():
            assert_explained(name, finished, f"Cannot listen on 127.0.0.1:{port} (", "OUTCOMES_PORT")
        arguments = ("demo", "--sandbox-port", port)
        other = await run(OUTCOMES, *arguments, OUTCOMES_DATABASE_URL=database_url, OUTCOMES_DATA_DIR=str(tmp_path))
        assert_explained("demo", other, f"Cannot listen on 127.0.0.1:{port} (", "--sandbox-port")
        sandbox = await run(OUTCOMES, "sandbox", "--port", port)
        assert_explained("sandbox", sandbox, f"Cannot listen on 127.0.0.1:{port} (", "--port")


async def test_files_that_are_not_there_or_hold_something_else(tmp_path: Path, database_url: str) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database_url}
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    (tmp_path / "empty").touch()
    for arguments, words in (
        (("erasures", "repeat", "nowhere"), ("nowhere", "does not exist")),
        (("erasures", "repeat", "."), ("is a directory",)),
        (("erasures", "repeat", "binary"), ("not UTF-8",)),
        (("crm-sync", "nowhere.toml"), ("nowhere.toml: No such file or directory",)),
        (("crm-sync", "."), (".: Is a directory",)),
        (("crm-sync", "binary"), ("binary: it is not UTF-8",)),
        (("crm-sync", "empty"), ("empty",)),
    ):
        finished = await run_in(tmp_path, OUTCOMES, *arguments, **settings, OUTCOMES_FEED_KEY="key")
        assert "Traceback" not in finished.errors
        assert (finished.status, finished.output) == (2, ""), finished
        last = finished.errors.splitlines()[-1]
        assert last.startswith(("Error: ", "outcomes: ")), finished
        assert [word for word in words if word not in last] == [], finished
        assert "Errno" not in last
    for name in ("FORMANT_WEBHOOK_SECRET_FILE", "OUTCOMES_DATABASE_URL_FILE", "OUTCOMES_TARGETS_FILE"):
        # The secret would be given twice otherwise.
        given = {"FORMANT_WEBHOOK_SECRET": ""} if name.startswith("FORMANT") else {}
        assert_explained(
            "serve", await run(OUTCOMES, "serve", **given | {name: "/nowhere"}), name, "/nowhere", "No such file"
        )


async def test_ctrl_c_while_the_database_says_nothing(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=60"
        silent.settimeout(60)
        for name in ("serve", "demo", "migrate", "keys list", "verify", "bi role"):
            process = await asyncio.create_subprocess_exec(
                OUTCOMES, *name.split(), cwd=tmp_path,
                env=make_environ({"OUTCOMES_DATABASE_URL": url, "PYTHONFAULTHANDLER": "1"}),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            connection, _ = await asyncio.to_thread(silent.accept)  # so it waits for the answer
            with connection:
                process.send_signal(signal.SIGINT)
                # One that goes on is ended, and says where it was.
                giving_up = asyncio.get_running_loop().call_later(50, process.send_signal, signal.SIGABRT)
                output, errors = await process.communicate()
                giving_up.cancel()
            assert (process.returncode, output, errors.strip()) == (130, b"", b""), name


INTERRUPT_THE_IMPORT = """
import sys
from service.__main__ import main

class CtrlC:
    def find_spec(name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC)
main()
"""


async def test_ctrl_c_while_the_program_is_being_imported() -> None:
    assert await run(sys.executable, "-c", INTERRUPT_THE_IMPORT) == Finished(130, "", "")


async def test_the_version_is_reported() -> None:
    finished = await run(OUTCOMES, "--version")
    assert (finished.status, finished.errors) == (0, "")
    assert finished.output.startswith("outcomes 0.")


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_commands_for_people_log_no_json(database_url: str, level: str) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_LOG_LEVEL": level, "OUTCOMES_PROT": "1"}
    for name, finished in (await call({"migrate", "keys list", "verify", "bi hide"}, **settings)).items():
        assert finished.status == 0, finished
        lines = finished.errors.splitlines()
        assert "outcomes: warning: unknown setting (setting OUTCOMES_PROT, nearest OUTCOMES_PORT)" in lines
        assert [line for line in lines if line.startswith("{")] == [], name
