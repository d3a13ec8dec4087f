"""The built wheel works outside the checkout and contains its SQL."""

import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import asyncpg
import pytest

from service.store.migrations import read_functions, read_migrations
from tests.processes import make_environ, run, run_in, serve

CHECKOUT = Path(__file__).parents[2]
# Prints the folders of the package and of its SQL.
PRINT_FOLDERS = """
import service, sys, pathlib
from service.store.database import find_sql_folder
print(pathlib.Path(service.__file__).parent)
print(find_sql_folder())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its dependencies come from this environment, by path."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=CHECKOUT, env=make_environ({}), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    environment = folder / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    # Python ignores .pth files in a folder that a .pth file names, so the editable installation stays hidden.
    relative = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (environment / relative / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--no-cache", "--quiet",
         "--python", str(environment / "bin" / "python"), str(wheel)],
        cwd=folder, env=make_environ({}), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return environment


async def test_the_wheel_uses_its_own_package_and_sql(installed: Path, tmp_path: Path) -> None:
    printed = await run_in(tmp_path, str(installed / "bin" / "python"), "-c", PRINT_FOLDERS)
    assert printed.status == 0, printed.errors
    package, sql = (Path(line) for line in printed.output.splitlines())
    assert package.is_relative_to(installed)
    assert sql == package / "sql"
    ours = {path.relative_to(CHECKOUT / "sql"): path.read_bytes() for path in (CHECKOUT / "sql").rglob("*.sql")}
    assert {path.relative_to(sql): path.read_bytes() for path in sql.rglob("*.sql")} == ours
    assert ours


async def test_the_wheel_contains_the_documentation_page_and_its_licence(installed: Path) -> None:
    (static,) = installed.glob("lib/*/site-packages/service/web/static")
    ours = CHECKOUT / "service" / "web" / "static"
    files = {path.relative_to(ours): path.read_bytes() for path in ours.rglob("*") if path.is_file()}
    assert {path.relative_to(static): path.read_bytes() for path in static.rglob("*") if path.is_file()} == files
    assert {"LICENSE", "NOTICE", "swagger-ui-bundle.js", "docs.html"} <= {path.name for path in files}


async def test_the_wheel_contains_the_package_and_nothing_else(installed: Path) -> None:
    packages = [path.name for path in next(installed.glob("lib/*/site-packages")).iterdir() if path.is_dir()]
    assert [name for name in packages if not name.endswith(".dist-info")] == ["service"]


async def test_its_service_starts_and_says_its_version(installed: Path, database_url: str) -> None:
    async with serve(str(installed / "bin" / "outcomes"), OUTCOMES_DATABASE_URL=database_url) as serving:
        assert (await serving.client.get("/readyz")).status_code == 200
        document = (await serving.client.get("/openapi.json")).json()
        assert await serving.end(signal.SIGTERM) == 0
    printed = await run(str(installed / "bin" / "outcomes"), "--version")
    assert printed.output == f"outcomes {document['info']['version']}\n"


async def test_its_command_migrates_a_fresh_database_outside_the_checkout(
    installed: Path, empty_database_url: str, tmp_path: Path
) -> None:
    command = str(installed / "bin" / "outcomes")
    finished = await run_in(tmp_path, command, "migrate", OUTCOMES_DATABASE_URL=empty_database_url)
    assert (finished.status, finished.output) == (0, "The schema is up to date.\n"), finished.errors
    connection = await asyncpg.connect(empty_database_url)
    try:
        applied = await connection.fetch("SELECT version FROM schema_migrations ORDER BY version")
        functions = await connection.fetchval("SELECT count(*) FROM schema_functions")
    finally:
        await connection.close()
    assert [row["version"] for row in applied] == [file.name.partition("_")[0] for file in read_migrations()]
    assert functions == len(read_functions())
