"""Phones of people to suppress, read from files: a CSV of contacts, or a list of phones, one a line."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from service.errors import InvalidRequestError
from service.phones.parsing import PhoneError, normalise_phone
from service.uploads.contacts import check_contacts
from service.uploads.folders import make_folder
from service.uploads.report import ContactsOptions
from service.uploads.uploader import refuse_errors

MAX_LINE_CHARACTERS = 1000


async def read_phones(path: Path, region: str, phone_column: str) -> list[str]:
    """The phones in a file, in E.164: a column of a CSV, ``customer_phone`` if ``phone_column`` is "", or all lines if
    the first is a phone.

    Raises InvalidRequestError, which names a line that has no phone.
    """
    if await asyncio.to_thread(_is_list, path, region):
        return await asyncio.to_thread(_read_list, path, region)
    with make_folder() as folder:
        phones = Path(folder) / "phones"
        options = ContactsOptions(
            region=region, is_region_stated=region != "", duplicates="first", phone_column=phone_column
        )
        try:
            refuse_errors(await check_contacts(path, options, phones_path=str(phones)))
        except InvalidRequestError as error:  # no row is skipped here: its person would be called
            message = error.message.replace(", or send invalid=skip", "")
            raise InvalidRequestError(message, details=error.details) from error
        return phones.read_text().splitlines()


def _is_list(path: Path, region: str) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in iter(lambda: file.readline(MAX_LINE_CHARACTERS), "") if line.strip()), "")
    try:
        normalise_phone(first, region)
    except PhoneError as error:
        return error.kind == "phone_country"  # a phone that needs a region, which its error says
    return True


def _read_list(path: Path, region: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS), ""), start=1)
        return read_all(((f"file: line {number}", line) for number, line in lines if line.strip()), region)


def read_all(phones: Iterable[tuple[str, str]], region: str) -> list[str]:
    """The phones in E.164, each once. They come with their places; InvalidRequestError names the first that is no
    phone by its place."""
    found: dict[str, None] = {}
    problems: list[str] = []
    for place, phone in phones:
        try:
            found[normalise_phone(phone, region)] = None
        except PhoneError as error:
            problems.append(f"{place} {error.problem}: {error.remedy}")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InvalidRequestError(f"{problems[0]}{more}")
    return list(found)
