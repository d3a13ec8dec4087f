"""Runs the scripts of ``deploy/backup`` as an operator does."""

from pathlib import Path

from tests.postgres import find_programs
from tests.processes import OUTCOMES, Finished, run

SCRIPTS = Path(__file__).parents[2] / "deploy" / "backup"


async def run_script(name: str, *arguments: str | Path, url: str, **settings: str) -> Finished:
    """Runs a script to its end, on a database."""
    return await run(
        "sh", str(SCRIPTS / name), *map(str, arguments),
        **{"OUTCOMES_DATABASE_URL": url, "PROGRAM": OUTCOMES, "PG_BIN": str(find_programs()), **settings},
    )  # fmt: skip


async def back_up(url: str, folder: Path, **settings: str) -> Path:
    """Makes a backup, which must succeed; returns its folder."""
    done = await run_script("backup.sh", folder, url=url, **settings)
    assert (done.status, done.errors) == (0, ""), done
    return Path(done.output.strip())


async def restore(backup: Path, url: str, erasures: str | Path = "none") -> None:
    """Restores a backup, which must succeed."""
    done = await run_script("restore.sh", backup, url=url, ERASURES=str(erasures))
    assert (done.status, "restored: " in done.output) == (0, True), done


def read_manifest(backup: Path) -> dict[str, str]:
    """The manifest of a backup, by key."""
    return dict(line.split(" ", 1) for line in (backup / "MANIFEST").read_text().splitlines())
