"""Files of held batches without a person: the rows of a phone are left out, all others stay byte for byte the same."""

import csv
import io
from collections.abc import Iterator

from service.uploads.report import PHONE_COLUMN


def remove_phone(content: bytes, phone: str) -> tuple[bytes, int]:
    """A CSV as this service writes it, without the rows of ``phone``, and how many there were."""
    text = content.decode()
    # Each record with the text that it was read from: a quoted cell may hold line breaks.
    lines = iter(io.StringIO(text, newline=""))
    taken: list[str] = []

    def feed() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    kept: list[str] = []
    removed, phone_at = 0, -1
    for row in csv.reader(feed()):
        if phone_at < 0:
            phone_at = row.index(PHONE_COLUMN)
        elif row and row[phone_at] == phone:
            removed += 1
            taken.clear()
            continue
        kept.extend(taken)
        taken.clear()
    return "".join(kept).encode(), removed
