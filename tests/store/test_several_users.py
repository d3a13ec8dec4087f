"""Several users of one machine: each has an embedded Postgres, and none stands in another's way."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import OUTCOMES, run_in

NOBODY = pwd.getpwnam("nobody")


def become(uid: int, gid: int) -> tuple[str, ...]:
    """What runs a command as another user."""
    return (
        "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups",
        # The Python of these tests may lie in a home that others cannot look into. It may read it, but write nothing.
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
    )  # fmt: skip


ANOTHER_USER = become(NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A temporary folder in which everybody may make files, and nobody may open the lock that the wheel has there."""
    folder = Path(tempfile.mkdtemp(prefix="outcomes-shared-"))
    folder.chmod(0o1777)
    lock = folder / ".lockfile"
    lock.touch()
    lock.chmod(0)
    yield folder
    shutil.rmtree(folder)


def require_another_user() -> None:
    """Skips the test where this process cannot become another user."""
    is_able = os.geteuid() == 0 and shutil.which("setpriv")
    if not is_able or subprocess.run([*ANOTHER_USER, "true"], check=False, capture_output=True).returncode:
        pytest.skip("becoming another user needs root")


async def test_the_lock_of_another_user_holds_nobody_up(shared_folder: Path) -> None:
    command: tuple[str, ...] = (OUTCOMES,)
    if os.geteuid() == 0:
        require_another_user()
        command = (*ANOTHER_USER, OUTCOMES)
    home = shared_folder / "home"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    migrated = await run_in(home, *command, "migrate", HOME=str(home), TMPDIR=str(shared_folder), XDG_RUNTIME_DIR="")
    assert (migrated.status, migrated.output.splitlines()[-1]) == (0, "The schema is up to date."), migrated
    assert (home / ".data" / "postgres" / "PG_VERSION").exists()


async def test_the_data_of_another_user_are_refused_in_one_line(shared_folder: Path) -> None:
    require_another_user()
    mine = await run_in(shared_folder, OUTCOMES, "migrate")
    assert mine.status == 0, mine
    for command in ("migrate", "serve"):
        refused = await run_in(shared_folder, *ANOTHER_USER, OUTCOMES, command, HOME=str(shared_folder))
        assert refused.status == 2
        (line,) = refused.errors.splitlines()
        assert line.startswith("outcomes: OUTCOMES_DATA_DIR: .data cannot be used (Permission denied)"), line


async def test_root_does_not_take_the_data_of_another_user(shared_folder: Path) -> None:
    require_another_user()
    home = shared_folder / "home"
    home.mkdir()
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    settings = {"HOME": str(home), "TMPDIR": str(shared_folder), "XDG_RUNTIME_DIR": ""}
    made = await run_in(home, *ANOTHER_USER, OUTCOMES, "migrate", **settings)
    assert made.status == 0, made
    refused = await run_in(home, OUTCOMES, "migrate", **settings)
    assert refused.status == 2
    assert refused.errors.endswith("belongs to the user nobody: run this as nobody, or set OUTCOMES_DATABASE_URL\n"), (
        refused
    )
    again = await run_in(home, *ANOTHER_USER, OUTCOMES, "migrate", **settings)
    assert again.status == 0, again


async def test_a_user_without_a_name_is_refused_with_what_postgres_said(shared_folder: Path) -> None:
    require_another_user()
    uid = 54_321
    home = shared_folder / "home"
    home.mkdir()
    os.chown(home, uid, uid)
    refused = await run_in(home, *become(uid, uid), OUTCOMES, "migrate", HOME=str(home))
    assert (refused.status, refused.output) == (2, "")
    assert refused.errors == (
        "outcomes: The embedded Postgres does not start (initdb: could not look up effective user ID 54321: user does "
        "not exist): correct that, run this as another user, or set OUTCOMES_DATABASE_URL\n"
    )
