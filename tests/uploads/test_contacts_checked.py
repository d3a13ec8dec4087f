"""Contacts checked whole: the report, duplicates, a test sample, and the process that does it for large files."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError, UnavailableError
from service.phones.parsing import PhoneError, is_plain_e164, normalise_phone, parse_phone
from service.uploads import contacts
from service.uploads.checking import Task
from service.uploads.contacts import check_contacts, read_columns
from service.uploads.report import ContactsOptions, Duplicates
from tests.uploads.checked import check, make_part, read, read_copy

TWICE = b"customer_phone\n+919876543210\n+14155550100\n+91 98765-43210\n"
PATHS = pytest.mark.parametrize("process_bytes", [0, 2**30], ids=["process", "thread"])


def write(path: Path, rows: int) -> Path:
    path.write_text("customer_phone,n\n" + "".join(f"+9198{n:08},{n}\n" for n in range(rows)))
    return path


@pytest.mark.parametrize(("duplicates", "recipients", "errors"), [("reject", 2, 1), ("first", 2, 0), ("all", 3, 0)])
def test_a_repeated_phone_is_reported_and_treated_as_asked(
    duplicates: Duplicates, recipients: int, errors: int
) -> None:
    report, found, _ = check(TWICE, ContactsOptions(duplicates=duplicates))
    assert (report.recipients, report.error_count, len(found)) == (recipients, errors, recipients)
    (duplicate,) = report.duplicates
    assert (duplicate.line, duplicate.first_line, duplicate.phone) == (4, 2, "+91…10")


def test_all_errors_are_counted_by_kind_and_the_first_hundred_listed() -> None:
    report, _, _ = check(b"customer_phone\n" + b"nobody\n" * 150 + b"12\n", ContactsOptions())
    assert (report.error_count, len(report.errors)) == (151, 100)
    assert report.error_kinds == {"phone_unreadable": 150, "phone_country": 1}
    assert report.errors[0].value == "(6 characters)"


def test_utf_16_with_its_mark_reads_like_utf_8() -> None:
    found, _ = read("customer_phone\tname\n+919876543210\tआशा\n".encode("utf-16"))
    assert found[0].parameters == '{"name":"आशा"}'


@PATHS
async def test_a_sample_goes_to_the_second_part_and_both_are_numbered_in_file_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process_bytes: int
) -> None:
    monkeypatch.setattr(contacts, "PROCESS_BYTES", process_bytes)
    path, parts = write(tmp_path / "in.csv", 100), (make_part(tmp_path, "main"), make_part(tmp_path, "test"))
    report = await check_contacts(path, ContactsOptions(), parts, test_recipients=10, seed=4)
    assert report.part_counts == [90, 10]
    main, test = map(read_copy, parts)
    assert [one.recipient_no for one in test] == list(range(1, 11))
    assert [one.phone for one in test] == sorted(one.phone for one in test)
    assert len({one.phone for one in main + test}) == 100
    with pytest.raises(InvalidRequestError, match=r"test_recipients: .* 100"):
        await check_contacts(path, ContactsOptions(), parts, test_recipients=100)


@PATHS
async def test_a_file_unreadable_as_a_whole_is_refused_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process_bytes: int
) -> None:
    monkeypatch.setattr(contacts, "PROCESS_BYTES", process_bytes)
    path = tmp_path / "in.csv"
    path.write_text("phone\n1\n")
    with pytest.raises(InvalidRequestError, match="no column 'customer_phone'"):
        await check_contacts(path, ContactsOptions())
    with pytest.raises(InvalidRequestError, match="no column 'customer_phone'"):
        read_columns(path)


async def test_a_check_that_is_cancelled_or_killed_leaves_no_process(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", 300_000)
    others = psutil.Process().children()
    begun = asyncio.Event()
    task = asyncio.create_task(check_contacts(path, ContactsOptions(), on_progress=lambda _: begun.set()))
    await begun.wait()
    (child,) = set(psutil.Process().children()).difference(others)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not child.is_running()

    def kill(_: int) -> None:
        for one in set(psutil.Process().children()).difference(others):
            one.kill()

    with pytest.raises(UnavailableError, match="nothing was changed"):
        await check_contacts(path, ContactsOptions(), on_progress=kill)


async def test_the_process_ends_when_its_caller_is_gone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.csv")  # a file whose reading never comes to an end
    task = Task(path=str(tmp_path / "never.csv"), options=ContactsOptions(), parts=(), test_recipients=0, seed=0)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.uploads.checking", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(msgspec.json.encode(task) + b"\n"), 20)
    assert (process.returncode, errors) == (1, b"")


@pytest.mark.parametrize(
    ("value", "region", "kind"),
    [("9876543210", "", "phone_country"), ("+2109876543210", "", "phone_country"), ("+9198765", "", "phone_length"),
     ("+9198765432101234", "", "phone_length"), ("Asha", "IN", "phone_unreadable"), ("", "IN", "phone_missing"),
     ("+919876543210 ext. 5", "", "phone_extension")],
)  # fmt: skip
def test_what_is_no_phone_is_refused_with_the_reason(value: str, region: str, kind: str) -> None:
    with pytest.raises(PhoneError) as refused:
        normalise_phone(value, region)
    assert refused.value.kind == kind


@pytest.mark.parametrize("value", ["+91 98765 43210", "+91-(98765)-43210", "00919876543210", "098765 43210"])
def test_a_phone_is_normalised_however_it_is_written(value: str) -> None:
    assert normalise_phone(value, "IN") == "+919876543210"


@settings(deadline=None, derandomize=True, max_examples=2000)
@given(value=st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_what_is_taken_as_it_is_is_what_the_library_makes_of_it(value: str) -> None:
    if is_plain_e164(value):
        assert parse_phone(value, "") == value
