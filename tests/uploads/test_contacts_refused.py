"""Contacts that cannot be used: the line and the column are named, and the value, which may be a person's, never."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.uploads.headers import MAX_COLUMNS
from service.uploads.report import ContactsOptions
from service.uploads.rows import MAX_CELL_CHARACTERS
from tests.uploads.checked import check, read

HEADER = b"customer_phone,name\n"
GOOD = b"+919876543210,Asha\n"


def refuse(file: bytes, *, ref_column: str = "outcome_ref") -> str:
    """The message that a file is refused with."""
    try:
        report, _, _ = check(file, ContactsOptions(ref_column=ref_column, duplicates="all"))
    except InvalidRequestError as error:
        return str(error)
    assert report.error_count >= len(report.errors) > 0
    return str(report.errors[0])


def test_a_file_without_a_line_is_refused_with_what_belongs_there() -> None:
    assert refuse(b"") == "file: is empty; its first line names the columns, customer_phone among them"


@pytest.mark.parametrize("file", [b"customer_phone,name\n", b"customer_phone,name", HEADER + b"\n\r\n\n"])
def test_a_header_alone_is_refused(file: bytes) -> None:
    assert refuse(file) == "file: has a header and no recipients"


@pytest.mark.parametrize("phone", ["+919876543210", "9876543210", "+91 98765-43210"])
def test_a_file_that_begins_with_a_contact_is_refused_without_quoting_it(phone: str) -> None:
    message = refuse(f"Asha,{phone}\nRavi,+14155550100\n".encode())
    assert message.startswith("file: line 1 holds a contact, and names no columns: put a line above it that does")


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"customer_phone,a,b,a\n", "file: line 1, column 4: 'a' is there twice"),
        (b"customer_phone,a, a \n", "file: line 1, column 3: 'a' is there twice"),
        (b"customer_phone,a,customer_phone\n", "file: line 1, column 3: 'customer_phone' is there twice"),
        (b"customer_phone,a\x00b\n", "file: line 1, column 2: has no usable name"),
        (b"customer_phone,outcome_ref\n", "file: line 1, column 2: 'outcome_ref' is reserved"),
        (
            ",".join(["customer_phone", *(f"c{n}" for n in range(MAX_COLUMNS)), "\n"]).encode(),
            f"file: line 1 has {MAX_COLUMNS + 2} columns, more than {MAX_COLUMNS}",
        ),
    ],
)
def test_a_header_that_cannot_be_used_is_refused_at_its_column(header: bytes, problem: str) -> None:
    assert refuse(header + GOOD).startswith(problem)


def test_only_the_reference_column_in_use_is_reserved() -> None:
    file = b"customer_phone,outcome_ref\n+919876543210,mine\n"
    assert refuse(file).endswith("rename it, or set OUTCOMES_REF_COLUMN")
    for ref_column in ("", "other_ref"):
        read(file, ref_column=ref_column)


@pytest.mark.parametrize(
    "phone",
    ["9876543210", "+0123456789", "+123456", "+1234567890123456", "+9198765x", "++919876543", "+٩١٩٨٧٦٥٤٣٢x",
     "919876543210", "sip:+919876543210@example.org"],
)  # fmt: skip
def test_a_phone_that_is_not_e164_is_refused_by_line_and_column(phone: str) -> None:
    message = refuse(HEADER + GOOD + f"{phone},Ravi\n".encode())
    assert message.startswith("file: line 3, column customer_phone: is not a phone number in E.164")
    assert "Ravi" not in message
    assert not phone or phone not in message.partition("such as")[0]


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    before = b'"+919876543210","two\nlines"\n\n'
    assert refuse(HEADER + before + b"oops,Ravi\n").startswith("file: line 5, column customer_phone")
    assert refuse(HEADER + before + b'oops,"Ravi\nand more"\n').startswith("file: line 5, column customer_phone")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"+14155550100\n", "file: line 3 has 1 cell, the header 2: quote cells"),
        (b"+14155550100,Ravi,more\n", "file: line 3 has 3 cells, the header 2"),
        (b"+14155550100,Ra\x00vi\n", "file: line 3, column name: holds a NUL character"),
        (
            "+14155550100,Ravi é ".encode() + b"\xe9\n",
            "file: line 3, column name: is not UTF-8: save the file as CSV UTF-8",
        ),
        (b"+14155550100,Ravi \xe2\x82", "file: line 3, column name: is not UTF-8: save the file as CSV UTF-8"),
        (b'+14155550100,"Ravi\n' + GOOD * 3, "file: line 3 is not valid CSV: unexpected end of data"),
        (b'+14155550100,"Ravi" Rao\n' + GOOD, "file: line 3 is not valid CSV"),
        (b"+14155550100," + b"R" * (MAX_CELL_CHARACTERS + 1) + b"\n", "file: line 3 is not valid CSV: field larger"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_at_its_line(row: bytes, problem: str) -> None:
    message = refuse(HEADER + GOOD + row)
    assert message.startswith(problem)
    assert "Ra" not in message
    assert "+1415" not in message


@settings(deadline=None, derandomize=True)
@given(
    file=st.binary(max_size=200)
    | st.lists(st.sampled_from(["+919876543210", "a", '"', ",", "\n", "\r", "\x00"])).map("".join).map(str.encode)
)
def test_any_bytes_are_read_or_refused_and_nothing_else(file: bytes) -> None:
    for content in (file, HEADER + file):
        numbers: list[int] = []
        messages: list[str] = []
        try:
            report, contacts, _ = check(content, ContactsOptions(duplicates="all"))
            numbers = [contact.recipient_no for contact in contacts]
            messages = [f"{error} {error.value}" for error in report.errors]
        except InvalidRequestError as error:
            messages = [str(error)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers or messages
        assert all(one.startswith("file: ") and "+919876543210" not in one.partition("such as")[0] for one in messages)
