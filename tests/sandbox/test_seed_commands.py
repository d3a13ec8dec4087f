"""The provider's document has four curl commands: each works as it stands there, with base URL and key changed."""

import asyncio
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import API_KEY, StartService
from tests.provider import CONTACTS, connect_provider

UPLOAD = r"""
curl -X POST "https://api.voice.formantai.com/v1/batch-call" \
  -H "Authorization: Bearer $FORMANT_API_KEY" \
  -F "agent_id=123" \
  -F "name=March Follow Ups" \
  -F "file=@contacts.csv"
"""
LIST = r"""
curl "https://api.voice.formantai.com/v1/batch-calls?agent_id=123&limit=20&offset=0" \
  -H "Authorization: Bearer $FORMANT_API_KEY"
"""
GET = r"""
curl "https://api.voice.formantai.com/v1/batch-calls/456" \
  -H "Authorization: Bearer $FORMANT_API_KEY"
"""
METRICS = r"""
curl "https://api.voice.formantai.com/v1/batch-calls/456/metrics" \
  -H "Authorization: Bearer $FORMANT_API_KEY"
"""
BATCH = {
    "id": 456,
    "name": "March Follow Ups",
    "agent_id": 123,
    "status": "pending",
    "total_recipients": 2,
    "created_at": "2026-03-16T10:30:00Z",
}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_four_commands_of_the_providers_document_work_as_they_stand_there(
    start_service: StartService, tmp_path: Path
) -> None:
    (tmp_path / "contacts.csv").write_text(CONTACTS)
    async with connect_provider(start_service) as (service, _):

        async def run(command: str) -> Any:
            command = command.replace("https://api.voice.formantai.com", str(service.base_url).rstrip("/"))
            words = shlex.split(command.replace("\\\n", " ").replace("$FORMANT_API_KEY", API_KEY))
            process = await asyncio.create_subprocess_exec(
                *words, "--silent", "--noproxy", "*", "--max-time", "30", cwd=tmp_path, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            return json.loads(output)

        uploaded = (await run(UPLOAD))["data"]
        assert uploaded == BATCH | {name: uploaded[name] for name in ("upload_id", "file", "withdrawn")}
        shown = BATCH | {"verdict": "unverified", "verdict_text": "Not compared with the provider yet."}
        assert await run(LIST) == {"data": [shown], "total": 1, "has_more": False}
        assert await run(GET) == {"data": shown}
        metrics = (await run(METRICS))["data"]
        assert len(metrics) == 12
        assert (metrics["in_progress_count"], metrics["total_processed"], metrics["success_rate"]) == (2, 0, 0.0)
