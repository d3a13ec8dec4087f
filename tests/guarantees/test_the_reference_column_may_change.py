"""The setting for the reference column changes while batches run: each batch keeps the column of its upload."""

import pytest

from service.formant.events import EventDecoder, Unreadable
from service.formant.targets import load_targets
from service.store.database import Database
from service.telemetry.metrics import Metrics
from service.webhooks.decoding import open_decoder
from service.webhooks.reattribution import Reattributor
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Verifier
from service.webhooks.writer import Writer
from tests.conftest import SECRET, StartService
from tests.factories import BATCH_ID, RECEIVED, REF_TOKEN, encode, make_payload, post_webhook, store_batch
from tests.webhooks.ingesting import get_event, ingest

COLUMNS = ["outcome_ref", "row_ref", ""]


async def find(database: Database, event_id: str) -> tuple[int | None, int | None]:
    row = await get_event(database, event_id)
    return row["batch_id"], row["recipient"]


async def verify(database: Database, column: str) -> list[tuple[str, str]]:
    bodies = BodyCheck(load_targets((SECRET,), allow_unsigned=False, path=None))
    verifier = Verifier(database, await open_decoder(database, column), bodies)
    return [(found.what, found.key) async for found in verifier.verify()]


@pytest.mark.parametrize("column", COLUMNS)
async def test_webhooks_of_a_running_batch_are_known_by_the_column_of_its_upload(
    start_service: StartService, database: Database, column: str
) -> None:
    await store_batch(database.url, 3)
    async with start_service() as service:
        await post_webhook(service, make_payload(recipient=1, event_id="before"))
    async with start_service(OUTCOMES_REF_COLUMN=column) as service:
        await post_webhook(service, make_payload(recipient=2, event_id="after"))
    assert [await find(database, name) for name in ("before", "after")] == [(BATCH_ID, 1), (BATCH_ID, 2)]
    assert await verify(database, column) == []


@pytest.mark.parametrize("column", COLUMNS)
async def test_events_that_arrived_while_their_column_was_not_read_are_attributed_by_reattribute(
    database: Database, column: str
) -> None:
    await store_batch(database.url, 3)
    decoder = EventDecoder("another")
    # After a final call, so that the recipient is not found by phone either.
    later = make_payload(recipient=1, attempt=2, event_id="missed")
    event = decoder.decode_event(encode(later), "default", RECEIVED, None)
    known = (await open_decoder(database, column)).decode_event(
        encode(make_payload(recipient=1, event_id="known")), "default", RECEIVED, None
    )
    assert not isinstance(event, Unreadable)
    assert not isinstance(known, Unreadable)
    await ingest(database, known)
    await ingest(database, event)
    assert await find(database, "missed") == (None, None)
    writer = Writer(database.url, database.queries, Metrics())
    targets = load_targets((), allow_unsigned=True, path=None)
    worker = Reattributor(database, targets, await open_decoder(database, column), writer)
    assert [finding async for finding in worker.reattribute()] == []
    writer.close()
    assert await find(database, "missed") == (BATCH_ID, 1)


@pytest.mark.parametrize(
    ("parameters", "reference"),
    [
        ({"new": f"{REF_TOKEN}-1", "old": "other-2"}, (REF_TOKEN, 1)),
        ({"new": "", "old": f"{REF_TOKEN}-2"}, (REF_TOKEN, 2)),
        ({"new": 7, "old": f"{REF_TOKEN}-3"}, (REF_TOKEN, 3)),
        ({"old": {"nested": 1}, "new": None}, (None, None)),
        ({"third": f"{REF_TOKEN}-1"}, (None, None)),
    ],
)
def test_the_first_column_with_a_reference_counts(
    parameters: dict[str, object], reference: tuple[str | None, int | None]
) -> None:
    body = encode(make_payload(recipient=None, parameters=parameters))
    event = EventDecoder(["new", "", "old"]).decode_event(body, "default", RECEIVED, None)
    assert not isinstance(event, Unreadable)
    assert (event.ref_token, event.ref_no) == reference
