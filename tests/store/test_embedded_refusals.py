"""An embedded Postgres that refuses to start: the reason, and what to do, at once."""

from pathlib import Path

from tests.processes import OUTCOMES, run


async def test_data_of_another_version_of_postgres_are_refused(tmp_path: Path) -> None:
    settings = {"OUTCOMES_DATA_DIR": str(tmp_path)}
    assert (await run(OUTCOMES, "migrate", **settings)).status == 0
    (tmp_path / "postgres" / "PG_VERSION").write_text("17\n")
    for command in ("migrate", "serve", "keys list"):
        refused = await run(OUTCOMES, *command.split(), **settings)
        assert (refused.status, refused.output) == (2, "")
        assert refused.errors == (
            f"outcomes: OUTCOMES_DATA_DIR: {tmp_path}/postgres has data of Postgres 17, the embedded one is 18: name "
            "another folder, or set OUTCOMES_DATABASE_URL\n"
        )


async def test_a_configuration_that_postgres_refuses_is_quoted_from_its_log(tmp_path: Path) -> None:
    settings = {"OUTCOMES_DATA_DIR": str(tmp_path)}
    assert (await run(OUTCOMES, "migrate", **settings)).status == 0
    with (tmp_path / "postgres" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    refused = await run(OUTCOMES, "migrate", **settings)
    assert (refused.status, refused.output) == (2, "")
    (line,) = refused.errors.splitlines()
    assert line.startswith("outcomes: The embedded Postgres does not start (")
    assert 'unrecognized configuration parameter "no_such_setting"' in line
    assert line.endswith("): correct that, run this as another user, or set OUTCOMES_DATABASE_URL")
