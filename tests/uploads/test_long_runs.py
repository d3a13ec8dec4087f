"""Every reader of outside text takes time in proportion to its length, whatever character repeats."""

import contextlib
import time
from collections.abc import Callable

import pytest

from service.formant.lenient import bound_numbers, decode_leniently
from service.phones.bodies import find_numbers, names_phone, read_text
from service.phones.canonical import canonical_phone
from service.phones.parsing import PhoneError, normalise_phone
from service.uploads.number_formats import show_number
from service.uploads.report import ContactsOptions, mask_cell, mask_phone
from service.uploads.tables import is_sheet_error
from tests.uploads.checked import check

SHORT, LONG = 1_000, 32_000
GROWTH = 10 * LONG / SHORT
"""Ten times that of a reader in proportion; a third of a quadratic one's."""
RUNS = [
    " ", "0", "7", "a", "x", "_", "+", "(", ")", "()", "( ", "-", ".", ",", ";", ":", "/", "\\", '"', "'", "=", "#",
    "@", "%", "[",
    "]", "<", ">", "?", "*", "é", "٣", "①", "\u200b", "\u0301", "\u0301\u0316", "\t", "\n", "7 ", "7.", "7 +", "+7",
    "a:",
    "_a", '\\"', "\\u0039", '"a', "1E", "ext", "x7", "tel:", "%37", "0.", "[h]", "<row ", "\x00",
]  # fmt: skip
ENDS = ["", '"', "a", "7", "+", "\\u"]


def read_phone(text: str) -> None:
    for region in ("", "IN"):
        with contextlib.suppress(PhoneError):
            normalise_phone(text, region)


def check_cells(text: str) -> None:
    cell = text.replace('"', '""')
    check(
        f'customer_phone,name\n+919876543210,"{cell}"\n"+1{cell}",Asha\n+919876543211,Ravi\n'.encode(),
        ContactsOptions(invalid="skip"),
    )


READERS: dict[str, Callable[[str], object]] = {
    "normalise_phone": read_phone,
    "canonical_phone": lambda text: canonical_phone(text, "IN"),
    "names_phone": lambda text: names_phone(text.encode(), "+919876543210"),
    "read_text": lambda text: read_text(text.encode()),
    "find_numbers": lambda text: find_numbers(text.encode()),
    "show_number": lambda text: show_number(919876543210, text),
    "bound_numbers": lambda text: bound_numbers(f'"1e400{text}'),
    "decode_leniently": lambda text: decode_leniently(text.encode()),
    "mask": lambda text: (mask_phone(text), mask_cell(text)),
    "is_sheet_error": is_sheet_error,
    "check": check_cells,
}


@pytest.mark.parametrize("name", READERS)
def test_the_time_of_a_reader_grows_in_proportion_to_the_length(name: str, subtests: pytest.Subtests) -> None:
    read = READERS[name]
    for run in RUNS:
        for end in ENDS if name != "check" else ENDS[:1]:
            with subtests.test(run + end):
                short = min(measure(read, run, SHORT, end) for _ in range(3))
                long = measure(read, run, LONG, end)
                # A pause of the machine is no growth: only what lasts is.
                if long > 0.1 + GROWTH * short:
                    long = min(measure(read, run, LONG, end) for _ in range(3))
                assert long <= 0.1 + GROWTH * short


def measure(read: Callable[[str], object], run: str, length: int, end: str) -> float:
    text = (run * length)[:length] + end
    began = time.thread_time()
    read(text)
    return time.thread_time() - began
