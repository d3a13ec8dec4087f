"""The uploaded CSV: ``customer_phone`` and the call parameters of each row.

Kept as the text and the offset of each row, so 500,000 rows cost little more than the file. A row is parsed when it is
dialled. Values stay verbatim strings.
"""

import csv
import io
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from service.sandbox.calls import seeded_random
from service.sandbox.http import ProviderError

_PHONE_COLUMN = "customer_phone"
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(slots=True, eq=False)
class Contacts:
    """The rows of one upload; ``starts`` has one entry more than there are rows."""

    columns: list[str]
    text: str
    starts: "array[int]"  # quoted: not subscriptable before Python 3.12

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read(self, row: int) -> tuple[str, dict[str, str]]:
        """The phone and the call parameters (all other columns) of a row, counted from 0."""
        line = self.text[self.starts[row] : self.starts[row + 1]]
        parameters = dict(zip(self.columns, next(csv.reader(io.StringIO(line, newline=""))), strict=True))
        return parameters.pop(_PHONE_COLUMN), parameters


def read_contacts(content: bytes) -> Contacts:
    """Reads and checks a whole file; raises ``ProviderError`` 400, naming the line, when a row cannot be dialled."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProviderError(400, f"The file is not UTF-8 (byte {error.start}).") from error
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    try:
        columns = _check_columns(next(reader, []))
        starts = _find_rows(reader, lines, columns)
    except csv.Error as error:
        raise ProviderError(400, f"Line {lines.count}: not readable as CSV ({error}).") from error
    if len(starts) == 1:
        raise ProviderError(400, "The file has no recipients.")
    return Contacts(columns, text, starts)


class _Lines:
    """The text line by line, with the position read so far: a row may span several lines."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.position = 0
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        while self.position < len(self._text):
            start = self.position
            self.position = self._text.find("\n", start) + 1 or len(self._text)
            self.count += 1
            yield self._text[start : self.position]


def _check_columns(columns: list[str]) -> list[str]:
    if _PHONE_COLUMN not in columns:
        raise ProviderError(400, f"The file must have a {_PHONE_COLUMN} column.")
    if len(set(columns)) < len(columns):
        raise ProviderError(400, "Two columns of the file have the same name.")
    return columns


def _find_rows(reader: Iterator[list[str]], lines: _Lines, columns: list[str]) -> "array[int]":
    starts = array("Q", [])
    phone_index, width = columns.index(_PHONE_COLUMN), len(columns)
    start = lines.position
    for row in reader:
        if row:
            if len(row) != width:
                raise ProviderError(400, f"Line {lines.count}: {len(row)} values for {width} columns.")
            if not _E164.fullmatch(row[phone_index]):
                raise ProviderError(400, f"Line {lines.count}: {_PHONE_COLUMN} is not in E.164, such as +919876543210.")
            starts.append(start)
        start = lines.position
    starts.append(start)
    return starts


_SAMPLE_COLUMNS = ("customer_phone", "customer_name", "loan_id", "due_amount")
_MIN_MOBILE, _MAX_MOBILE = 6_000_000_000, 9_999_999_999
_MIN_LOAN, _MAX_LOAN = 10_000, 99_999
_FIRST_NAMES = """
    Aarav Aditi Akash Amit Ananya Anil Anita Arjun Bhavna Deepak Divya Farhan Gaurav Geeta Harish Imran Isha Kavita
    Kiran Lakshmi Manoj Meera Mohan Nandini Naveen Neha Nikhil Pooja Pradeep Priya Rahul Rajesh Ravi Rekha Rohan
    Sameer Sanjay Shalini Sneha Sunil Suresh Swati Tanvi Uma Varun Vijay Vikram Yasmin
""".split()  # noqa: SIM905 - names read better as words than as a list of 40 lines
_LAST_NAMES = """
    Agarwal Bose Chauhan Das Desai Dutta Fernandes Ghosh Gupta Iyer Jain Joshi Kapoor Khan Kulkarni Kumar Mehta
    Menon Mishra Mukherjee Nair Naidu Pandey Patel Patil Pillai Rao Reddy Saxena Shah Sharma Shetty Singh Sinha
    Subramanian Thomas Tiwari Varma Verma Yadav
""".split()  # noqa: SIM905 - names read better as words than as a list of 40 lines


def sample_contacts(count: int, seed: int) -> str:
    """CSV text of ``count`` contacts with unique Indian mobile numbers in E.164; the same seed gives the same text."""
    chance = seeded_random(seed, "sample")
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(_SAMPLE_COLUMNS)
    for number in chance.sample(range(_MIN_MOBILE, _MAX_MOBILE + 1), count):
        name = f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"
        loan = f"LN-{chance.randint(_MIN_LOAN, _MAX_LOAN)}"
        amount = max(500, round(chance.lognormvariate(9.8, 0.7), -2))
        writer.writerow((f"+91{number}", name, loan, f"{amount:.0f}"))
    return target.getvalue()
