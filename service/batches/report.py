"""shim"""

from typing import Literal

import msgspec

Duplicates = Literal["reject", "first", "all"]


class ContactError(msgspec.Struct):
    line: int
    column: str | None
    value: str
    problem: str
    remedy: str


class ContactsReport(msgspec.Struct):
    columns: list[str]
    recipients: int
    bytes: int = 0
    error_count: int = 0
    errors: list[ContactError] = []
    duplicate_count: int = 0
    duplicates: list[int] = []
    part_counts: list[int] = []
