"""Opens the decoder: it reads references from the column of new uploads and from the columns of existing batches.

The setting may change while batches run; their webhooks still carry the column that was uploaded.
"""

from service.formant.events import ANYWHERE, EventDecoder
from service.formant.kinds import NO_KINDS, CallKinds
from service.formant.regions import Regions
from service.store.database import Database


async def open_decoder(
    database: Database, ref_column: str, regions: Regions = ANYWHERE, kinds: CallKinds = NO_KINDS
) -> EventDecoder:
    """A decoder that reads references from ``ref_column`` ("" for none) first, then from the columns of existing
    batches, latest first. ``kinds`` are the rules for calls without a reference."""
    former = [row["ref_column"] async for row in database.queries.list_ref_columns(database.pool)]
    return EventDecoder([ref_column, *former], regions, kinds)
