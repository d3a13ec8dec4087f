"""A column of days is not taken for one of phones, and a column of phones not for one of days."""

import random
from datetime import datetime, timedelta

import phonenumbers
import pytest

from service.errors import InvalidRequestError
from service.phones.parsing import PhoneError, normalise_phone
from service.uploads.days import may_be_day
from service.uploads.report import ContactsOptions
from tests.phones.numbers import valid_number
from tests.uploads.checked import check

FORMATS = [
    *(f"%d{s}%m{s}%Y" for s in ("", "-", "/", ".", " ")), *(f"%m{s}%d{s}%Y" for s in ("", "-", "/", ".", " ")),
    *(f"%Y{s}%m{s}%d" for s in ("", "-", "/", ".", " ")), *(f"%d{s}%m{s}%y" for s in ("", "-", "/", ".", " ")),
    *(f"%m{s}%d{s}%y" for s in ("", "-", "/", ".", " ")), *(f"%y{s}%m{s}%d" for s in ("", "-", "/", ".", " ")),
    "%-d%m%Y", "%-m%d%Y", "%-d%-m%Y", "%-d.%-m.%Y", "%-m/%-d/%Y", "%-d/%-m/%y", "%Y%m%d%H%M", "%Y%m%d%H%M%S",
]  # fmt: skip
LANDS = ("DK", "NO", "SG", "EE", "IS")


def write(cells: list[str]) -> bytes:
    return ("customer_phone,name\n" + "".join(f"{cell},Asha\n" for cell in cells)).encode()


def list_days(count: int) -> list[datetime]:
    dice = random.Random(7)
    return [datetime(1983, 1, 1) + timedelta(minutes=dice.randrange(60 * 24 * 365 * 70)) for _ in range(count)]


def test_a_day_is_recognised_however_it_is_written() -> None:
    for day in list_days(200):
        written = [day.strftime(number_format) for number_format in FORMATS]
        serial = (day - datetime(1899, 12, 30)) / timedelta(days=1)
        written += [str(int(serial)), f"{int(serial)}.0", f"{serial:.6f}"]
        assert [one for one in written if not may_be_day(one)] == []


@pytest.mark.parametrize(
    "cell", ["", "9876543210", "+4528112026", "12345", "60000", "99112026", "32132026", "20261332", "28-11/2026",
    "282826",
             "28112126", "202611282561", "5551234567", "030 1234567", "0"]
)  # fmt: skip
def test_what_no_calendar_has_is_no_day(cell: str) -> None:
    assert not may_be_day(cell)


@pytest.mark.parametrize("number_format", ["%d%m%Y", "%Y%m%d", "%-d%m%Y", "%d%m%y"])
@pytest.mark.parametrize("region", LANDS)
def test_a_file_is_refused_if_half_of_its_phones_may_be_days(number_format: str, region: str) -> None:
    dice = random.Random(region)
    phones = [
        phonenumbers.format_number(valid_number(region, dice), phonenumbers.PhoneNumberFormat.E164) for _ in range(20)
    ]
    days = [day.strftime(number_format) for day in list_days(20)]
    for is_stated in (False, True):
        options = ContactsOptions(region=region, is_region_stated=is_stated, invalid="skip", duplicates="all")
        with pytest.raises(InvalidRequestError, match="half or more cells of the column 'customer_phone' may be days"):
            check(write(phones + days), options)
        report, _, _ = check(write(phones + days[1:]), options)
        assert report.recipients >= 20


@pytest.mark.parametrize("region", LANDS)
def test_ordinary_files_of_countries_with_short_numbers_are_read(region: str) -> None:
    dice = random.Random(region)
    for size in (1, 3, 300):
        cells: list[str] = []
        while len(cells) < size:
            number = valid_number(region, dice)
            style = phonenumbers.PhoneNumberFormat.NATIONAL
            written = dice.choice([
                phonenumbers.national_significant_number(number), phonenumbers.format_number(number, style)
            ])  # fmt: skip
            try:
                normalise_phone(written, region)
            except PhoneError:
                continue  # it begins with the country code
            cells.append(written)
        report, _, _ = check(write(cells), ContactsOptions(region=region, duplicates="all"))
        assert (report.recipients, report.error_count) == (size, 0)
