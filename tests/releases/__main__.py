"""``make release``: builds the files of a release in ``dist``, and keeps what its database looks like for the tests."""

import asyncio
import sys
import tempfile
from pathlib import Path

from service.app import prepare_schema
from service.store.embedded import run_embedded_postgres
from tests.releases.building import ROOT, build, read_changes, read_version
from tests.releases.databases import FOLDER, dump, fill


async def _make_database(url: str) -> None:
    await prepare_schema(url, may_migrate=True)
    await fill(url)


def main() -> None:
    """Refuses without a section in the changelog."""
    version = read_version()
    try:
        read_changes((ROOT / "CHANGELOG.md").read_text(), version)
    except ValueError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory() as folder, run_embedded_postgres(Path(folder)) as url:
        asyncio.run(_make_database(url))
        dump(url, FOLDER / f"{version}.sql.gz")
    for file in build(ROOT / "dist"):
        print(file.relative_to(ROOT))
    print(f"Commit {(FOLDER / f'{version}.sql.gz').relative_to(ROOT)}, and tag the commit v{version}.")


if __name__ == "__main__":
    main()
