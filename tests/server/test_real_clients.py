"""Clients that offer HTTP/2 over http by default, as real programs: their webhooks are stored."""

import shutil
from pathlib import Path

import httpx
import pytest

from service.formant.signature import SIGNATURE_HEADER, sign
from service.store.database import Database
from tests.conftest import SECRET
from tests.exposition import read_metric
from tests.factories import encode, make_payload
from tests.processes import run

CLIENT = Path(__file__).with_name("Post.java")
SIZES = (1_000, 200_000)


def make_files(folder: Path) -> list[tuple[Path, str]]:
    """Events of several sizes in files, with their signatures."""
    files = []
    for size in SIZES:
        payload = make_payload(event_id=f"of-{size}")
        payload["data"]["transcript"] = "x" * size
        path = folder / f"{size}.json"
        path.write_bytes(encode(payload))
        files.append((path, sign(path.read_bytes(), SECRET)))
    return files


async def count_events(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM events")
    return count


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no java")
async def test_javas_http_client_as_it_is_by_default(
    service: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    url = str(service.base_url.join("/webhooks/formant"))
    arguments = [str(part) for pair in make_files(tmp_path) for part in pair]
    finished = await run("java", str(CLIENT), url, SIGNATURE_HEADER, *arguments)
    assert finished.output.splitlines() == ["HTTP_1_1 204"] * 3 * len(SIZES), finished
    assert await count_events(database) == len(SIZES)
    stored = await read_metric(service, "outcomes_webhooks_total", target="default", answer="stored")
    assert stored == 3 * len(SIZES)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("more", [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]])
async def test_curl_that_offers_http_2(
    service: httpx.AsyncClient, database: Database, tmp_path: Path, more: list[str]
) -> None:
    url = str(service.base_url.join("/webhooks/formant"))
    for path, signature in make_files(tmp_path):
        report = ["-H", f"{SIGNATURE_HEADER}: {signature}", "--data-binary", f"@{path}", *more]
        # Twice, so that the second goes over the first one's connection.
        finished = await run(
            "curl", "-sS", "--http2", "-w", "%{http_version} %{http_code} %{num_connects}\n", *report, url, url
        )
        assert finished.output.splitlines() == ["1.1 204 1", "1.1 204 0"], finished
    assert await count_events(database) == len(SIZES)
