"""The commands as real processes: what they refuse, in one sentence with the remedy, and their help."""

import asyncio
import hashlib
import re
import sys
from pathlib import Path

import asyncpg
import click

from service.cli import outcomes
from service.store.database import Database
from tests.commands.refusing import assert_refused, find_commands
from tests.factories import encode, make_payload
from tests.processes import OUTCOMES, run, run_in, serve

COMMANDS = ("serve", "migrate", "replay")  # those that need the database


async def test_without_a_secret_it_refuses_to_serve(tmp_path: Path) -> None:
    finished = await run(OUTCOMES, "serve", FORMANT_WEBHOOK_SECRET="", OUTCOMES_DATA_DIR=str(tmp_path / "data"))
    assert_refused(finished, "FORMANT_WEBHOOK_SECRET", "OUTCOMES_ALLOW_UNSIGNED=1")
    assert list(tmp_path.iterdir()) == []  # no Postgres was made before


async def test_migrate_names_the_folder_of_a_postgres_that_it_makes(tmp_path: Path) -> None:
    made, again = [await run_in(tmp_path, OUTCOMES, "migrate") for _ in range(2)]
    assert made.output == f"Made an embedded Postgres in {tmp_path}/.data.\nThe schema is up to date.\n"
    assert again.output == "The schema is up to date.\n"


WRONG_SETTINGS = {
    "OUTCOMES_PORT": "65536",
    "OUTCOMES_MAX_BODY_BYTES": "5MB",
    "OUTCOMES_ALLOW_UNSIGNED": "yes",
    "FORMANT_BASE_URL": "api.voice.formantai.com",
    "OUTCOMES_TIME_ZONE": "Mars/Olympus",
    "OUTCOMES_LOG_LEVEL": "loud",
    "OUTCOMES_TARGETS_FILE": "/nowhere/targets.toml",
    "OUTCOMES_API_KEY_FILE": "/nowhere/key",
}


async def test_a_setting_that_cannot_be_used_is_named(database_url: str) -> None:
    every = await asyncio.gather(
        *(
            run(OUTCOMES, "serve", **{"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_API_KEY": "", name: value})
            for name, value in WRONG_SETTINGS.items()
        )
    )
    for name, finished in zip(WRONG_SETTINGS, every, strict=True):
        assert_refused(finished, name)


async def test_a_name_that_is_nearly_a_setting_is_warned_of(database_url: str) -> None:
    async with serve(OUTCOMES_DATABASE_URL=database_url, OUTCOMES_PROT="8080") as serving:
        (warning,) = (line for line in serving.log if line["event"] == "unknown_setting")
    assert (warning["setting"], warning["nearest"]) == ("OUTCOMES_PROT", "OUTCOMES_PORT")


async def test_a_database_that_does_not_answer_is_reported_without_its_password() -> None:
    address = "postgresql://bob:pass-word@127.0.0.1:1/x"
    every = await asyncio.gather(*(run(OUTCOMES, command, OUTCOMES_DATABASE_URL=address) for command in COMMANDS))
    for finished in every:
        assert_refused(finished, "The database does not answer", "OUTCOMES_DATABASE_URL")
        assert "pass-word" not in finished.errors


async def test_an_address_that_cannot_be_read_is_reported_without_its_password() -> None:
    address = "postgresql://bob:pass-word@127.0.0.1:no-port/x"
    every = await asyncio.gather(*(run(OUTCOMES, command, OUTCOMES_DATABASE_URL=address) for command in COMMANDS))
    for finished in every:
        assert_refused(
            finished, "OUTCOMES_DATABASE_URL cannot be read", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
        assert "pass-word" not in finished.errors


async def test_a_database_that_does_not_exist_is_reported_with_postgres_own_words(database_url: str) -> None:
    address = re.sub(r"/test_\d+", "/not_there", database_url)
    finished = await run(OUTCOMES, "serve", OUTCOMES_DATABASE_URL=address)
    assert_refused(finished, 'database "not_there" does not exist')


async def test_a_schema_that_is_ahead_is_refused(database_url: str, database: Database) -> None:
    await database.pool.execute("INSERT INTO schema_migrations (version) VALUES ('9999')")
    every = await asyncio.gather(*(run(OUTCOMES, name, OUTCOMES_DATABASE_URL=database_url) for name in COMMANDS))
    for finished in every:
        assert_refused(finished, "ahead", "9999")


async def test_a_schema_that_is_behind_is_refused_where_serve_may_not_migrate(empty_database_url: str) -> None:
    settings = {"OUTCOMES_DATABASE_URL": empty_database_url, "OUTCOMES_MIGRATE_ON_START": "0"}
    assert_refused(await run(OUTCOMES, "serve", **settings), "outcomes migrate")
    for _ in range(2):
        migrated = await run(OUTCOMES, "migrate", **settings)
        assert (migrated.status, migrated.output) == (0, "The schema is up to date.\n")
    async with serve(**settings) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200


async def test_a_database_that_may_lose_commits_is_refused_unless_that_was_accepted(
    database_url: str, database: Database
) -> None:
    name = await database.pool.fetchval("SELECT current_database()")
    await database.pool.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    settings = {"OUTCOMES_DATABASE_URL": database_url}
    finished = await run(OUTCOMES, "serve", **settings)
    assert_refused(finished, "synchronous_commit", "OUTCOMES_ALLOW_UNSAFE_DATABASE=1")
    async with serve(**settings, OUTCOMES_ALLOW_UNSAFE_DATABASE="1") as serving:
        (warning,) = (line for line in serving.log if line["event"] == "database_unsafe")
        assert (warning["setting"], warning["level"]) == ("synchronous_commit", "warning")


async def test_a_port_that_is_taken_is_reported(database_url: str) -> None:
    async with serve(OUTCOMES_DATABASE_URL=database_url) as serving:
        port = str(serving.client.base_url.port)
        finished = await run(OUTCOMES, "serve", OUTCOMES_DATABASE_URL=database_url, OUTCOMES_PORT=port)
    assert_refused(finished, f"127.0.0.1:{port}", "OUTCOMES_PORT")


async def test_every_command_says_what_it_is_for() -> None:
    commands = find_commands(outcomes)
    assert {path[0] for path, _ in commands if path} >= {"serve", "migrate", "replay", "demo", "sandbox"}
    helps = await asyncio.gather(*(run(OUTCOMES, *path, "--help") for path, _ in commands))
    for (path, command), shown in zip(commands, helps, strict=True):
        assert (shown.status, shown.errors) == (0, ""), path
        assert shown.output.startswith("Usage: ")
        assert [line for line in shown.output.splitlines() if len(line) > 80] == [], path
        assert "..." not in shown.output.partition("Commands:")[2], path  # what each is for fits its line
        first_sentence = " ".join((command.help or "").split()).partition(".")[0]
        assert len(first_sentence) > 20, path
        assert first_sentence in " ".join(shown.output.split())
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert [option.name for option in options if not option.help] == [], path


SLOW = {"aiosql", "asyncio", "asyncpg", "httpx", "msgspec", "phonenumbers", "rich", "starlette", "structlog", "uvicorn"}
SHOW_EVERY_HELP = """
import sys
from service.cli import outcomes
for path in {paths}:
    try:
        outcomes.main([*path, "--help"], "outcomes")
    except SystemExit as end:
        assert not end.code, path
print("imported:", *sorted(set(sys.modules) & {slow}))
"""


async def test_help_imports_nothing_that_takes_long() -> None:
    paths = [path for path, _ in find_commands(outcomes)]
    shown = await run(sys.executable, "-c", SHOW_EVERY_HELP.format(paths=paths, slow=SLOW))
    assert (shown.status, shown.output.splitlines()[-1]) == (0, "imported:"), shown.errors


async def test_python_m_service_is_the_same(tmp_path: Path) -> None:
    shown, same = await asyncio.gather(
        run_in(tmp_path, sys.executable, "-m", "service", "--help"), run_in(tmp_path, OUTCOMES, "--help")
    )
    assert shown.status == same.status == 0
    assert shown.output.partition("\n")[2] == same.output.partition("\n")[2] != ""


async def test_a_number_that_no_id_can_be_is_refused() -> None:
    large = str(2**63)
    for arguments in (
        ("replay", large),
        ("reconcile", large),
        ("verify", "--batch", "-1"),
        ("bi", "hide", "--agent", large),
    ):
        finished = await run(OUTCOMES, *arguments)
        assert finished.status == 2, arguments
        assert finished.errors.splitlines()[-1].endswith(f"{arguments[-1]} is not an id."), finished


async def test_an_unknown_command_is_refused_with_2() -> None:
    finished = await run(OUTCOMES, "serv")
    assert (finished.status, finished.output) == (2, "")
    assert "No such command 'serv'" in finished.errors


async def quarantine(database: Database, body: bytes) -> int:
    quarantine_id: int = await database.pool.fetchval(
        """
        INSERT INTO quarantine (target, reason, detail, digest, body, received_at, last_received_at)
        VALUES ('default', 'not_json', 'body', $1, $2, now(), now())
        RETURNING quarantine_id
        """,
        hashlib.sha256(body).digest(),
        body,
    )
    return quarantine_id


async def test_replay_sends_all_that_waits_on_its_way_and_shows_what_stays(
    database_url: str, database: Database
) -> None:
    settings = {"OUTCOMES_DATABASE_URL": database_url}
    readable, other = [await quarantine(database, encode(make_payload(event_id=name))) for name in ("one", "two")]
    unreadable = await quarantine(database, b"no JSON")
    finished = await run(OUTCOMES, "replay", str(other), **settings)
    assert (finished.status, finished.output) == (0, f"{other}: is event two\n")
    finished = await run(OUTCOMES, "replay", **settings)
    assert finished.status == 1
    assert finished.output == f"{readable}: is event one\n{unreadable}: still cannot be used, stays\n"
    assert await database.pool.fetchval("SELECT array_agg(event_id ORDER BY event_id) FROM events") == ["one", "two"]
    assert_refused(await run(OUTCOMES, "replay", str(other), **settings), str(other), "quarantine")


async def test_replay_needs_no_secret_and_says_when_nothing_is_in_quarantine(database_url: str) -> None:
    finished = await run(OUTCOMES, "replay", OUTCOMES_DATABASE_URL=database_url, FORMANT_WEBHOOK_SECRET="")
    assert (finished.status, finished.output) == (0, "Nothing is in quarantine.\n")


async def test_progress_takes_one_line_where_nobody_watches(database_url: str) -> None:
    for command, line in (
        ("verify", r"Verified: 0 rows in \S+ s, 0 per second\n"),
        ("rebuild", r"Rebuilt: 0 rows in \S+ s, 0 per second\n"),
        ("reattribute", r"Attributed: 0 rows in \S+ s, 0 per second\n"),
    ):
        finished = await run(OUTCOMES, command, OUTCOMES_DATABASE_URL=database_url)
        assert finished.status == 0, finished
        assert re.fullmatch(line, finished.errors), finished


async def test_replay_does_not_touch_a_database_without_a_schema(empty_database_url: str) -> None:
    finished = await run(OUTCOMES, "replay", OUTCOMES_DATABASE_URL=empty_database_url)
    assert_refused(finished, "outcomes migrate")
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    finally:
        await connection.close()
