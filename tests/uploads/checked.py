"""Contacts checked in this process: what was stored of them, what would be sent, and what was found."""

import csv
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

from service.uploads.checking import Task, check_file
from service.uploads.report import ContactsOptions, ContactsReport, Part


class Contact(NamedTuple):
    recipient_no: int
    phone: str
    parameters: str


def make_part(folder: Path, name: str, *, token: str = "feedc0de") -> Part:
    return Part(
        batch_key=7, ref_token=token, upload_path=str(folder / f"{name}.csv"), copy_path=str(folder / f"{name}.copy")
    )


def read_copy(part: Part) -> list[Contact]:
    rows = csv.reader(io.StringIO(Path(part.copy_path).read_bytes().decode(), newline=""))
    return [Contact(int(number), phone, parameters) for _, number, phone, parameters in rows]


def check(file: bytes, options: ContactsOptions) -> tuple[ContactsReport, list[Contact], str]:
    with tempfile.TemporaryDirectory() as folder:
        path, part = Path(folder, "in.csv"), make_part(Path(folder), "main")
        path.write_bytes(file)
        task = Task(path=str(path), options=options, parts=(part,), test_recipients=0, seed=0)
        report = check_file(task, lambda _: None)
        return report, read_copy(part), Path(part.upload_path).read_bytes().decode()


def read(file: bytes, *, ref_column: str = "outcome_ref") -> tuple[list[Contact], str]:
    """The contacts in a good file, and the file to upload."""
    report, contacts, upload = check(file, ContactsOptions(ref_column=ref_column, duplicates="all"))
    assert report.errors == []
    assert report.recipients == len(contacts) == report.part_counts[0]
    return contacts, upload
