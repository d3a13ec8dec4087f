"""How this service's bodies are decoded: by the column that new uploads get, and by those that batches have already.

A setting may change while batches run; their webhooks keep coming back with the column that was uploaded.
"""

from service.formant.events import ANYWHERE, EventDecoder
from service.formant.regions import Regions
from service.store.database import Database


async def open_decoder(database: Database, ref_column: str, regions: Regions = ANYWHERE) -> EventDecoder:
    """A decoder that reads references in ``ref_column`` ("" for none) first, then in the column of any batch there is
    now, the latest first."""
    former = [row["ref_column"] async for row in database.queries.list_ref_columns(database.pool)]
    return EventDecoder([ref_column, *former], regions)
