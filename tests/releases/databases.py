"""The databases of releases: a dump for each, with some data, from which the tests upgrade."""

import gzip
import os
import re
import subprocess
from pathlib import Path

from tests.conftest import make_starter
from tests.factories import make_payload, post_webhook, store_batch
from tests.postgres import find_programs

FOLDER = Path(__file__).parent / "databases"
_OF_NEWER_PROGRAMS = re.compile(rb"^(SET transaction_timeout|\\(un)?restrict\b).*\n", re.MULTILINE)
"""Lines that an older Postgres or psql does not know."""


def list_dumps() -> list[Path]:
    """The dump of each release, named after its version."""
    return sorted(FOLDER.glob("*.sql.gz"))


async def fill(url: str) -> None:
    """Data of each kind that an upgrade could harm, through the service itself: counted, repeated, quarantined and
    unattributed events."""
    await store_batch(url, 5)
    async with make_starter(url)() as service:
        for number in range(1, 4):
            payload = make_payload(recipient=number, event_id=f"event-{number}")
            for _ in range(2):
                assert (await post_webhook(service, payload)).status_code == 204
        busy = make_payload(recipient=4, event_id="event-4", status="busy", final=False)
        stranger = make_payload(recipient=None, phone="+1999", event_id="event-5")
        for body in (busy, stranger, b"not JSON"):
            assert (await post_webhook(service, body)).status_code == 204
        assert (await service.post("/v1/keys", json={"name": "crm", "scopes": ["feed"]})).is_success
        assert (await service.put("/v1/feed/consumers/crm", json={"position": 2})).is_success


def dump(url: str, path: Path) -> None:
    """Writes a database as SQL that any supported Postgres reads; owners and privileges are left out."""
    done = _run("pg_dump", "--no-owner", "--no-privileges", url)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(_OF_NEWER_PROGRAMS.sub(b"", done), mtime=0))


def load(path: Path, url: str) -> None:
    """Restores a dump into an empty database."""
    _run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url, sql=gzip.decompress(path.read_bytes()))


def copy_schema(url: str, empty_url: str) -> list[bytes]:
    """The lines of a database's schema as SQL, sorted, after a copy into an empty database. Some expressions read
    differently once they were restored, and the order of objects only says when they were made."""
    _run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", empty_url, sql=_dump_schema(url))
    return sorted(_dump_schema(empty_url).splitlines())


def _dump_schema(url: str) -> bytes:
    return _OF_NEWER_PROGRAMS.sub(b"", _run("pg_dump", "--schema-only", "--no-owner", "--no-privileges", url))


def _run(program: str, *arguments: str, sql: bytes | None = None) -> bytes:
    done = subprocess.run(
        [find_programs() / program, *arguments], input=sql, capture_output=True, timeout=120, check=False,
        env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
