"""Phones in files: read as they are written, never guessed into somebody else's number."""

import random

import phonenumbers
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.phones.parsing import E164, PhoneError, normalise_phone
from service.phones.plans import find_origin, split_code
from tests.phones.numbers import valid_number

ASHA = "+919876543210"
EXAMPLES = sorted(
    {
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for region in phonenumbers.SUPPORTED_REGIONS
        for kind in range(11)
        if (number := phonenumbers.example_number_for_type(region, kind)) is not None
    }
)


@st.composite
def nearly_valid(draw: st.DrawFn) -> str:
    """A number in use somewhere, or one that differs from it by a few digits."""
    digits = list(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(0, 3))):
        digits[draw(st.integers(1, len(digits) - 1))] = draw(st.sampled_from("0123456789"))
    return "".join(digits[: len(digits) - draw(st.integers(0, 1))])


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(value=st.one_of(nearly_valid(), st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)))
def test_the_country_of_a_number_is_the_librarys(value: str) -> None:
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return
    assume(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == value)
    expected = (phonenumbers.region_code_for_number(number) or "", phonenumbers.is_valid_number(number))
    assert find_origin(value) == expected


@pytest.mark.parametrize(
    "written",
    [
        "919876543210.0", "+919876543210.0", "+919876543210.00", "'+919876543210", "’+919876543210", '="+919876543210"',
        "=+919876543210", "tel:+91-98765-43210", "TEL: +919876543210", "+91 98765 43210", "+91-98765-43210",
        "+91 (98765) 43210", "+91\u00a098765\u202f43210", "\u202a+919876543210\u202c", "\ufeff+91\u200b9876543210",
        "+919876543210\ufe0f", "\u2068+919876543210\u2069", "+९१९८७६५४३२१०", "＋９１９８７６５４３２１０",
        "00919876543210", "0091 98765 43210", "9876543210", "09876543210", "098765 43210", "919876543210",
        "0919876543210", "98765‑43210", "p:+919876543210", "whatsapp:+919876543210", "mobile: +91 98765 43210",
        "Mobile No.: +919876543210", "Téléphone : +919876543210", "+91 98765 43210 (WhatsApp)", "9876543210 (home)",
        "p:+919876543210 (Asha, at work)", " " * 30_000 + "+919876543210" + " " * 30_000, "+𝟗𝟏𝟗𝟖𝟕𝟔𝟓𝟒𝟑𝟐𝟏𝟎",
        "+91–98765–43210", "(+91) 98765 43210", "+91(0)9876543210", " +919876543210\t",
    ],
)  # fmt: skip
def test_one_person_is_read_however_a_file_writes_the_number(written: str) -> None:
    assert normalise_phone(written, "IN") == ASHA


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("+91 98765-43210/11", "phone_separator"), ("+919876543210.5", "phone_separator"),
        ("98765.43210", "phone_separator"), ("98765,43210", "phone_separator"), ("98765;43210", "phone_separator"),
        ("98765 or 43210", "phone_separator"), ("+91.98765.43210", "phone_separator"),
        ("98765_43210", "phone_separator"),
        ("98765\n43210", "phone_separator"), ("98765*43210", "phone_separator"), ("1.234.567.890", "phone_separator"),
        ("+919876543210 / +919876543211", "phone_several"), ("+919876543210, +919876543211", "phone_several"),
        ("9876543210;9876543211", "phone_several"), ("9876543210\n9876543211", "phone_several"),
        ("+919876543210+919876543211", "phone_several"), ("+919876543210 +919876543211", "phone_several"),
        ("9876543210 or 9876543211", "phone_several"), ("9876543210 & 9876543211", "phone_several"),
        ("9876543210 | 9876543211", "phone_several"), ("9876543210 9876543211", "phone_length"),
        ("9.19877E+11", "phone_scientific"), ("9,19877E+11", "phone_scientific"), ("9.2e11", "phone_scientific"),
        ("9E+11", "phone_scientific"), ("28-11-2026", "phone_date"), ("2026-11-28", "phone_date"),
        ("28/11/2026", "phone_date"), ("28.11.2026", "phone_date"), ("1/2/2026", "phone_date"),
        ("14155550100", "phone_unused"),
        ("560001 080", "phone_unused"), ("(555) 123-4567", "phone_unused"),
        ("20261128", "phone_unused"), ("5500012345678", "phone_unused"),
        ("", "phone_missing"), ("N/A", "phone_missing"), ("-", "phone_missing"), ("#N/A", "phone_missing"),
        ("0", "phone_missing"), ("null", "phone_missing"), ("nan", "phone_missing"),
        ("+00021000000", "phone_country"), ("+919876543210 ext. 5", "phone_extension"),
        ("+919876543210;ext=5", "phone_extension"), ("+919876543210x5", "phone_extension"),
        ("28-11-26", "phone_date"), ("2026-11", "phone_date"), ("28.11.26", "phone_date"),
        ("415-555-0123", "phone_unused"), ("702-555-0199", "phone_unused"), ("+91 98765 43210 (2)", "phone_extension"),
        ("+919876543210 1", "phone_extension"), ("+91 98765-43210-12", "phone_extension"),
        ("call me", "phone_unreadable"), ("98765abcde", "phone_unreadable"), ("asha@example.com", "phone_unreadable"),
        ("Mobile 2: +919876543210", "phone_unreadable"), ("Fax: +919876543210", "phone_unreadable"),
        ("+919876543210 (Fax)", "phone_unreadable"), ("Mobile: 9876543210", "phone_unreadable"),
        ("+91987654321¹", "phone_unreadable"), ("+9198765432①0", "phone_unreadable"),
        ("²9876543210", "phone_unreadable"), ("+919876543210⑴", "phone_unreadable"),
        ("98765½43210", "phone_unreadable"),
        ("+49 30 1234567 (2)", "phone_extension"), ("+49 30 1234567 (ext. 2)", "phone_extension"),
        ("+91 9876543210(2x)", "phone_extension"), ("98765 (43210)", "phone_extension"),
        ("+919876543210" + " " * 100 + "1", "phone_unreadable"), ("9" * 101, "phone_unreadable"),
        ("1200.50", "phone_unreadable"), ("₹1200", "phone_unreadable"),
    ],
)  # fmt: skip
def test_what_is_not_one_number_is_refused_even_with_a_region(written: str, kind: str) -> None:
    with pytest.raises(PhoneError) as refused:
        normalise_phone(written, "IN")
    assert refused.value.kind == kind


@pytest.mark.parametrize(
    ("written", "region"),
    [("4915112345678", "DE"), ("62812345678", "ID"), ("468121110", "SE")],
)  # fmt: skip
@pytest.mark.parametrize("is_stated", [False, True])
def test_a_number_that_is_valid_with_and_without_its_country_code_is_not_guessed(
    written: str, region: str, is_stated: bool
) -> None:
    with pytest.raises(PhoneError) as refused:
        normalise_phone(written, region, is_stated=is_stated)
    assert refused.value.kind == "phone_ambiguous"
    assert normalise_phone(f"+{written}", region) == f"+{written}"


@pytest.mark.parametrize(
    ("written", "region", "phone"),
    [("001 65 6123 4567", "SG", "+6561234567"), ("0065 6123 4567", "IN", "+6561234567"),
     ("0065 6123 4567", "SG", "+6561234567"),
     ("0091 98765 43210", "SG", ASHA), ("00919876543210", "", ASHA),
     ("00919876543210", "US", ASHA)],
)  # fmt: skip
def test_the_digits_dialled_for_a_call_abroad_are_those_of_the_region(written: str, region: str, phone: str) -> None:
    assert normalise_phone(written, region) == phone


@pytest.mark.parametrize("written", ["+11231237890", "+91987654321011", "+44999999007", "+15551234567"])
def test_an_unused_number_with_its_country_code_is_accepted(written: str) -> None:
    assert normalise_phone(written, "") == written
    assert not find_origin(written).is_valid


@pytest.mark.parametrize("written", ["(555) 123-4567", "555 987 6543", "(555) 010-1234"])
def test_a_region_that_is_stated_for_the_file_is_enough_for_a_number_of_its_form(written: str) -> None:
    with pytest.raises(PhoneError):
        normalise_phone(written, "US")
    assert normalise_phone(written, "US", is_stated=True) == "+1" + "".join(filter(str.isdigit, written))


@pytest.mark.parametrize("written", ["28-11-2026", "20261128", "560001 080", "14155550100", "555123", "123456789012"])
def test_a_region_that_is_stated_makes_no_number_of_what_has_not_its_form(written: str) -> None:
    with pytest.raises(PhoneError):
        normalise_phone(written, "IN", is_stated=True)


@pytest.mark.parametrize(
    ("written", "region", "problem", "remedy"),
    [
        ("919876543210", "", "with + it is a valid number of India", "region=IN"),
        ("14155550100", "", "with + it is a valid number of the United States", "region=US"),
        ("14155550100", "IN", "with + it is a valid number of the United States", "write the +"),
        ("9812345678", "", "no country code", "region=IN if it is a number of India"),
        ("4155550101", "", "no country code", "region=US if it is a number of the United States"),
    ],
)
def test_the_error_says_what_would_make_it_a_number(written: str, region: str, problem: str, remedy: str) -> None:
    with pytest.raises(PhoneError) as refused:
        normalise_phone(written, region)
    assert problem in refused.value.problem
    assert remedy in refused.value.remedy
    assert written not in refused.value.problem + refused.value.remedy


REGIONS = st.sampled_from(["", "IN", "US", "GB", "DE", "SG", "NG", "IT", "AR", "MX"])
PIECES = st.lists(
    st.one_of(st.from_regex(r"[0-9]{1,12}", fullmatch=True), st.sampled_from([*" -()+./,;:|&x#'\"\n", " or ", "E+"])),
    max_size=8,
)


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(pieces=PIECES, region=REGIONS, is_stated=st.booleans())
def test_a_number_is_read_only_from_digits_that_blanks_hyphens_and_parentheses_join(
    pieces: list[str], region: str, is_stated: bool
) -> None:
    written = "".join(pieces)
    try:
        phone = normalise_phone(written, region, is_stated=is_stated)
    except PhoneError:
        return
    assert E164.fullmatch(phone)
    core = written.strip().strip("'\"").strip()
    core = core.removesuffix(".0").removesuffix(".00")
    assert not set(core) & set("./,;:|&x#\nE"), written
    given_digits = "".join(filter(str.isdigit, core)).lstrip("0")
    subscriber = phone[1 + len(split_code(phone[1:])) :]
    assert given_digits.endswith(subscriber.lstrip("0")[-5:])
    if not core.lstrip("(").startswith(("+", "00")):
        assert find_origin(phone).is_valid or is_stated
        assert phone.startswith(f"+{phonenumbers.country_code_for_region(region)}")


WITH_TRUNK_PREFIX = ("IN", "DE", "GB", "AU", "FR", "BR", "ZA", "JP", "RU")
WITHOUT = ("DK", "NO", "SG", "EE", "IS")


@pytest.mark.parametrize("region", WITH_TRUNK_PREFIX)
def test_few_digits_are_no_number_of_a_guessed_country_that_has_a_trunk_prefix(region: str) -> None:
    dice = random.Random(region)
    trunk = "8" if region == "RU" else "0"
    for _ in range(2000):
        written = str(dice.randint(1000, 9_999_999))
        if not written.startswith(trunk):
            with pytest.raises(PhoneError):
                normalise_phone(written, region)


def test_few_digits_are_a_number_behind_a_plus_or_a_trunk_prefix() -> None:
    assert normalise_phone("030 5301", "DE") == "+49305301"
    assert normalise_phone("+49 305301", "DE") == "+49305301"
    for is_stated in (False, True):  # also where the region was given for the very file
        with pytest.raises(PhoneError, match="phone_unused") as refused:
            normalise_phone("305301", "DE", is_stated=is_stated)
        assert "with the 0 that is dialled" in refused.value.remedy


@pytest.mark.parametrize("region", WITHOUT)
def test_short_national_numbers_are_read_where_no_trunk_prefix_exists(region: str) -> None:
    dice = random.Random(region)
    for _ in range(200):
        number = valid_number(region, dice)
        national = phonenumbers.national_significant_number(number)
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        if not national.startswith(str(number.country_code)):
            assert normalise_phone(national, region) == e164
