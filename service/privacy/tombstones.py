"""A list of erased people, to keep outside the database: keyed hashes, which reveal nothing without the key.

A database restored from a backup contains people again who were erased after the backup. The list removes them: the key
is part of every backup, so the hashes of a later list still match.
"""

import csv
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from service.errors import InvalidRequestError
from service.formant.events import ANYWHERE
from service.formant.regions import Regions
from service.privacy.erasure import Eraser
from service.store.database import Database
from service.telemetry.context import current_actor
from service.uploads.phone_repair import PhoneRepair

HEADER = ("phone_hash", "erased_at")


class Tombstones:
    """Writes the list, and repeats the erasures in it."""

    def __init__(self, database: Database, regions: Regions = ANYWHERE) -> None:
        self._database = database
        self._regions = regions

    async def list(self) -> AsyncIterator[str]:
        """The lines of a CSV; the first one identifies the key."""
        mark = await self._database.queries.get_erasure_key_mark(self._database.pool)
        yield f"# erased people, under key {mark}"
        yield ",".join(HEADER)
        async with self._database.snapshot() as connection:
            async for row in self._database.queries.list_erased_phones(connection):
                yield f"{row['phone_hash']},{row['erased_at'].isoformat()}"

    async def repeat(self, lines: Iterable[str]) -> int:
        """Erases again the people in the list that were not erased here since. Returns how many people that were.

        Raises InvalidRequestError, and changes nothing, unless the list comes from this database.
        """
        hashes, times = _read(lines, await self._database.queries.get_erasure_key_mark(self._database.pool))
        # Tombstones hash phones in E.164; an older backup may hold other spellings.
        await PhoneRepair(self._database, self._regions).finish()
        begun: int = await self._database.queries.repeat_erasures(
            self._database.pool, phone_hashes=hashes, erased_at=times, actor=current_actor().name
        )
        await Eraser(self._database).finish_all()
        return begun


def _read(lines: Iterable[str], mark: str) -> tuple[list[bytes], list[datetime]]:
    rows = iter(lines)
    if next(rows, "").strip() != f"# erased people, under key {mark}":
        raise InvalidRequestError(
            "The list of erased people is not from this database: its first line must be "
            f"'# erased people, under key {mark}', as `outcomes erasures list` prints it"
        )
    try:
        found = [(bytes.fromhex(row["phone_hash"]), _time(row["erased_at"])) for row in csv.DictReader(rows)]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            "The list of erased people has an invalid line: print it again with `outcomes erasures list`"
        ) from error
    return [phone_hash for phone_hash, _ in found], [erased_at for _, erased_at in found]


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at
