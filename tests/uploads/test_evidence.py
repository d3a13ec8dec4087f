"""Before a person decides on an unknown upload, the service says what it could be."""

import time

from tests.conftest import StartService
from tests.provider import connect_provider, upload
from tests.uploads.lost_uploads import OTHERS, lose, make_elsewhere


async def test_the_evidence_names_the_batches_that_an_unknown_upload_could_be(start_service: StartService) -> None:
    async with connect_provider(start_service, start=time.time()) as (service, sandbox):
        upload_id = await lose(service, sandbox)
        path = f"/v1/uploads/{upload_id}/evidence"
        nothing = {"candidates": [], "unreadable_entries": 0, "has_calls": False, "is_known_sent": False}
        assert (await service.get(path)).json()["data"] == nothing
        batch_id = await make_elsewhere(sandbox, "Another name", OTHERS)
        (candidate,) = (await service.get(path)).json()["data"]["candidates"]
        assert (candidate["batch_id"], candidate["name"], candidate["recipients"]) == (batch_id, "Another name", 2)


async def test_there_is_no_evidence_to_weigh_on_an_upload_that_is_settled(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        upload_id = (await upload(service)).json()["data"]["upload_id"]
        assert (await service.get(f"/v1/uploads/{upload_id}/evidence")).status_code == 409
        assert (await service.get("/v1/uploads/999/evidence")).status_code == 404
