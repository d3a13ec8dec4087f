"""Rows that a stray quote swallowed: two quotes that are missing their partners make one cell of what is between them.

The CSV stays valid, so the people of these rows would vanish without a word.
"""

from service.uploads.headers import LONG_NUMBER, clean, count_digits, is_phone
from service.uploads.rows import DELIMITERS


def find_swallowed_rows(row: list[str], phone_at: int, least_width: int, region: str, delimiter: str) -> int | None:
    """The place of a cell that holds other rows; None where there is none. ``least_width``: the fewest cells of a row.

    The lines of such a cell are the rest of its own row, whole rows, and the beginning of the row that has the other
    quote. A line is taken for one of these if it has as many cells, and the phone in its place.
    """
    for at, cell in enumerate(row):
        lines = cell.splitlines()
        if len(lines) < 2:
            continue
        for number, line in enumerate(lines):
            first = 0 if number else at
            for one in {delimiter, *DELIMITERS}:
                cells = line.split(one)
                is_whole = least_width <= first + len(cells) <= len(row)
                is_beginning = number == len(lines) - 1 and len(cells) == at + 1
                if len(cells) > 1 and (is_whole or is_beginning) and first <= phone_at < first + len(cells):
                    phone = clean(cells[phone_at - first]).strip('"')
                    if count_digits(phone) >= LONG_NUMBER and is_phone(phone, region):
                        return at
    return None
