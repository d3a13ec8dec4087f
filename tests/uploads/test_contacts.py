"""Contacts: what a good CSV becomes, for us and in the file that is sent to the provider."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.uploads.headers import clean
from service.uploads.writers import CHUNK_ROWS
from tests.uploads.checked import Contact, read

PHONE = "+919876543210"
OTHER_PHONE = "+14155550100"


def test_each_row_becomes_a_contact_and_goes_on_with_its_reference() -> None:
    contacts, upload = read(b"customer_phone,loan_id\n+919876543210,LN-1\n+14155550100,LN-2\n")
    assert contacts == [Contact(1, PHONE, '{"loan_id":"LN-1"}'), Contact(2, OTHER_PHONE, '{"loan_id":"LN-2"}')]
    assert upload == (
        "customer_phone,loan_id,outcome_ref\r\n+919876543210,LN-1,feedc0de-1\r\n+14155550100,LN-2,feedc0de-2\r\n"
    )


def test_without_a_reference_column_the_rows_go_on_as_they_are() -> None:
    contacts, upload = read(b"loan_id,customer_phone\nLN-1,+919876543210\n", ref_column="")
    assert contacts == [Contact(1, PHONE, '{"loan_id":"LN-1"}')]
    assert upload == "loan_id,customer_phone\r\nLN-1,+919876543210\r\n"


def test_the_phone_may_stand_in_any_column_and_spaces_around_names_and_phones_go() -> None:
    contacts, upload = read(b" loan_id ,customer_phone , city\nLN-1, +919876543210 , Pune \n")
    assert contacts == [Contact(1, PHONE, '{"loan_id":"LN-1","city":" Pune "}')]
    assert upload.splitlines()[1] == "LN-1,+919876543210, Pune ,feedc0de-1"


def test_a_phone_alone_is_enough() -> None:
    assert read(b"customer_phone\n+919876543210")[0] == [Contact(1, PHONE, "{}")]


@pytest.mark.parametrize(
    "cell",
    [
        "a, b",
        'said "no"',
        "line one\nline two",
        "line one\r\nline two",
        "=HYPERLINK(1)",
        "@cmd|' /C calc'!A0",
        "-1",
        "0012",
        "1e5",
        "",
        " ",
        "ᚠ ₹ 👩‍👩‍👧",
        "\x0b\x85\u2028",
        "null",
        "\ufeff",
    ],
)
def test_a_cell_comes_through_verbatim(cell: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["customer_phone", "note"], [PHONE, cell]])
    (contact,), upload = read(file.getvalue().encode())
    assert json.loads(contact.parameters) == {"note": cell}
    assert list(csv.reader(io.StringIO(upload, newline="")))[1] == [PHONE, cell, "feedc0de-1"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("header", [b"customer_phone,a", b'"customer_phone","a"'])
def test_every_usual_way_to_save_a_csv_reads_the_same(end: bytes, mark: bytes, header: bytes) -> None:
    contacts, upload = read(mark + header + end + b"+919876543210,x" + end)
    assert contacts == [Contact(1, PHONE, '{"a":"x"}')]
    assert upload == "customer_phone,a,outcome_ref\r\n+919876543210,x,feedc0de-1\r\n"


def test_blank_lines_are_no_recipients_and_take_no_number() -> None:
    contacts, _ = read(b"customer_phone,a\n\n+919876543210,x\n\r\n\n+14155550100,y\n\n")
    assert [(contact.recipient_no, contact.phone) for contact in contacts] == [(1, PHONE), (2, OTHER_PHONE)]


def test_a_phone_that_is_there_twice_makes_two_recipients() -> None:
    assert [contact.recipient_no for contact in read(b"customer_phone\n+14155550100\n+14155550100\n")[0]] == [1, 2]


def test_files_longer_than_a_chunk_are_written_whole() -> None:
    rows = CHUNK_ROWS * 2 + 1
    contacts, upload = read(b"customer_phone\n" + b"+919876543210\n" * rows)
    assert [contact.recipient_no for contact in contacts] == list(range(1, rows + 1))
    assert upload.splitlines()[-1] == f"+919876543210,feedc0de-{rows}"


_cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_names = st.lists(
    _cells.map(clean).filter(lambda name: name not in {"", "customer_phone", "r"}),
    max_size=4,
    unique=True,
)
_phones = st.from_regex(r"\+919[0-9]{9}", fullmatch=True)


@st.composite
def _tables(draw: st.DrawFn) -> list[list[str]]:
    """A header and rows, with the phone in any column."""
    names = draw(_names)
    at = draw(st.integers(0, len(names)))
    row = st.tuples(_phones, st.lists(_cells, min_size=len(names), max_size=len(names)))
    rows = draw(st.lists(row, min_size=1, max_size=5))
    return [
        [*names[:at], "customer_phone", *names[at:]],
        *([*cells[:at], phone, *cells[at:]] for phone, cells in rows),
    ]


@settings(deadline=None, derandomize=True)
@given(
    table=_tables(),
    dialect=st.sampled_from(["excel", "unix"]),
    delimiter=st.sampled_from(",;\t|"),
    ref_column=st.sampled_from(["", "r"]),
)
def test_what_csv_wrote_is_what_contacts_give(
    table: list[list[str]], dialect: str, delimiter: str, ref_column: str
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, dialect, delimiter=delimiter).writerows(table)
    header, *rows = table
    contacts, upload = read(file.getvalue().encode(), ref_column=ref_column)
    assert [{"customer_phone": contact.phone, **json.loads(contact.parameters)} for contact in contacts] == [
        dict(zip(header, row, strict=True)) for row in rows
    ]
    references = [[ref_column], *([f"feedc0de-{contact.recipient_no}"] for contact in contacts)]
    sent = [row + reference for row, reference in zip(table, references, strict=True)] if ref_column else table
    assert list(csv.reader(io.StringIO(upload, newline=""))) == sent
