"""A service with something in it, in a thread of its own: for clients that know no loop."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from anyio.from_thread import start_blocking_portal

from service.sandbox import sample_contacts
from tests.conftest import API_KEY, make_starter
from tests.factories import make_payload, post_webhook
from tests.provider import connect_provider, upload
from tests.uploads.dashboard import make_elsewhere


class Living(NamedTuple):
    """Where the service is, and what there is in it: ids by the name of the parameter in the path that takes them."""

    base_url: str
    known: dict[str, list[str]]


@contextmanager
def live(database_url: str) -> Iterator[Living]:
    """The service, and the sandbox as its provider: batches called to their end, a test batch with its held main batch,
    one that is made elsewhere, comparisons, an event in quarantine, and one that fits nobody."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_live(database_url)) as living:
        yield living


@asynccontextmanager
async def _live(database_url: str) -> AsyncIterator[Living]:
    async with connect_provider(make_starter(database_url), plays=True) as (service, sandbox):
        sandbox.sandbox.faults.drop = 0.2
        assert (await upload(service, sample_contacts(30, seed=4))).status_code == 200
        await sandbox.sandbox.wait_until_done(456)
        assert (await service.post("/v1/batch-calls/456/reconcile")).json()["data"]["verdict"] == "complete"
        tested = await upload(service, sample_contacts(20, seed=5), agent_id="124", test_recipients="5")
        assert tested.json()["data"]["id"] == 457
        elsewhere = await make_elsewhere(sandbox, sample_contacts(3, seed=6))
        assert (await post_webhook(service, b"no event")).status_code == 204
        assert (await post_webhook(service, make_payload(event_id="of-nobody", agent_id=9))).status_code == 204
        assert (await service.put("/v1/feed/consumers/crm", json={"position": 3})).status_code == 200
        erased = (await service.post("/v1/erasures", json={"phone": "+919812345670"})).json()["data"]
        made = (await service.post("/v1/keys", json={"name": "dashboard", "scopes": ["read"]})).json()["data"]
        assert (await service.post("/console/sign-in", data={"key": API_KEY})).status_code == 303
        waiting = (await service.get("/v1/unattributed")).json()["data"]
        (quarantined,) = (await service.get("/v1/quarantine")).json()["data"]
        uploads = (await service.get("/v1/uploads")).json()["data"]
        recipient = (await service.get("/v1/batch-calls/456/recipients/1")).json()["data"]
        yield Living(
            str(service.base_url),
            {
                "batch_id": ["456", "457", str(elsewhere)],
                "recipient": ["1", "2", "30"],
                "upload_id": [str(each["upload_id"]) for each in uploads],
                "agent_id": ["123", "124"],
                "campaign_id": ["1", "2"],
                "arrival_id": [str(waiting[0]["arrival_id"])],
                "event_id": ["of-nobody", recipient["event_id"]],
                "quarantine_id": [str(quarantined["quarantine_id"])],
                "erasure_id": [str(erased["erasure_id"])],
                "target": ["default"],
                "key_id": [str(made["key_id"])],
                "session_id": ["1"],
                "name": ["crm"],
                "format": ["csv", "ndjson", "parquet"],
                "file": ["start.js"],
            },
        )
