"""Every command of the runbook and of the backup and upgrade page works as written, run against a service with data."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from service.store.database import Database
from tests.conftest import API_KEY, StartService, create_database
from tests.factories import make_payload, post_webhook, store_batch
from tests.postgres import PostgresServer, find_programs
from tests.processes import OUTCOMES, Finished, make_environ
from tests.provider import CONTACTS, KEY, connect_provider, upload
from tests.uploads.dashboard import make_elsewhere

ROOT = Path(__file__).parents[2]
PAGES = ("runbook.md", "backup-and-upgrade.md")
RUNBOOK = "".join((ROOT / "docs" / "operate" / page).read_text() for page in PAGES)
BLOCKS = re.findall(r"```bash\n(.*?)```", RUNBOOK, re.S)
INLINE = [
    " ".join(command.split())
    for command in re.findall(r"`((?:curl|outcomes) [^`]+)`", re.sub(r"```.*?```", "", RUNBOOK, flags=re.S))
    # These need a deployment, or a stream that is gone.
    if not re.search(r"\bROLE\b|bi role|--webhook-url|erasures repeat$|spill lost", command)
]
MAY_FIND_SOMETHING = ("outcomes doctor", "outcomes reconcile", "outcomes replay")
"""These exit with 1 if they find something."""


def test_the_pages_contain_commands() -> None:
    assert (len(BLOCKS) > 5, len(INLINE) > 8) == (True, True)


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("commands", [INLINE, BLOCKS], ids=["inline", "blocks"])
async def test_every_command_of_the_runbook_works_as_written(
    start_service: StartService, database: Database, postgres: PostgresServer, tmp_path: Path, commands: list[str]
) -> None:
    new_url = await create_database(postgres, "template0")  # reserves a free name
    new_name = new_url.partition("?")[0].rpartition("/")[2]
    await database.pool.execute(f"DROP DATABASE {new_name}")
    async with connect_provider(start_service) as (service, sandbox):
        assert (await upload(service, CONTACTS)).status_code == 200
        other = await make_elsewhere(sandbox, CONTACTS, "Lost")
        unknown = await store_batch(database.url, 2, batch_id=None, first_phone=50)
        await database.pool.execute(
            "UPDATE batches SET upload_state = 'unknown', name = 'Lost' WHERE batch_key = $1", unknown
        )
        await post_webhook(service, b"no event")
        await post_webhook(service, make_payload(recipient=None, phone="+919876543210"))
        await service.put("/v1/feed/consumers/crm", json={"position": 0})
        environ = make_environ(
            {
                "OUTCOMES": str(service.base_url).rstrip("/"), "KEY": API_KEY,
                "OUTCOMES_DATABASE_URL": database.url, "NEW_DATABASE_URL": new_url, "BACKUPS": str(tmp_path),
                "FORMANT_BASE_URL": sandbox.base_url, "FORMANT_API_KEY": KEY, "OUTCOMES_LOG_LEVEL": "error",
                "PATH": os.pathsep.join([str(Path(OUTCOMES).parent), str(find_programs()), os.environ["PATH"]]),
            }
        )  # fmt: skip

        async def run(command: str) -> Finished:
            for placeholder, value in (("UPLOAD", unknown), ("BATCH", 456), ("NAME", "crm"), ("restored", new_name)):
                command = re.sub(rf"(?<![\w$]){placeholder}\b", str(value), command)
            command = re.sub(r"\bcurl ", "curl --fail-with-body --silent --show-error --noproxy '*' ", command)
            process = await asyncio.create_subprocess_exec(
                "bash", "-euo", "pipefail", "-c", command.replace("--batch-id N", f"--batch-id {other}"),
                cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, errors = await process.communicate()
            assert process.returncode is not None
            return Finished(process.returncode, output.decode(), errors.decode())

        for command in commands:
            done = await run(command)
            allowed = {0, 1} if command.startswith(MAY_FIND_SOMETHING) else {0}
            assert done.status in allowed, (command, done)
    await database.pool.execute(f"DROP DATABASE IF EXISTS {new_name} WITH (FORCE)")
