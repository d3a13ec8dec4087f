"""A phone is compared in one form, however it is written."""

import random

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat

from service.phones.canonical import canonical_phone, require_phone
from service.phones.parsing import E164, PhoneError, normalise_phone
from tests.phones.numbers import REGIONS, SPELLINGS, valid_number


@pytest.mark.parametrize(
    ("said", "region"),
    [
        ("+919100000001", ""), ("919100000001", ""), ("919100000001", "IN"), ("919100000001", "US"),
        ("+91 91000 00001", ""), ("+91-9100000001", "US"), ("(+91) 91000-00001", ""), ("+91 (0) 91000 00001", ""),
        ("0091 91000 00001", ""), ("00919100000001", "IN"), ("011 91 91000 00001", "US"), ("9100000001", "IN"),
        ("09100000001", "IN"), ("91000 00001", "IN"), ("tel:+91-9100000001", ""), ("tel:+919100000001;ext=12", ""),
        ("tel:9100000001;phone-context=+91", ""), ("TEL:09100000001", "IN"), ("sip:+919100000001@10.0.0.1", ""),
        ("sip:+919100000001@host;user=phone", ""), ("sips:919100000001@host:5061", ""), ("whatsapp:+919100000001", ""),
        ('"A name 2" <sip:+919100000001@host>', ""), ("+91 9100000001 ext. 5", ""), ("+91 9100000001x5", ""),
        ("＋９１ ９１０００ ００００１", ""), ("+९१९१०००००००१", ""), ("९१०००००००१", "IN"), ("919100000001.0", ""),
        ("\u202a+91\u00a091000\u200b00001\u202c", ""), ("\ufeff+91 91000 00001", ""), ("%2B919100000001", ""),
        ("'+919100000001", ""), ('="+919100000001"', ""), ("+91 91000 00001\x00", ""), ("++919100000001", ""),
        ("0919100000001", "IN"), ("091 91000 00001", "IN"), ("tel:0919100000001", "IN"),
        ("+91 91000 00001 (Mobile)", ""), ("91000 00001 (work phone)", "IN"), ("Mobile: +91 91000 00001", ""),
        ("Téléphone : 09100000001", "IN"), ("sip:+919100000001:5060", ""), ("sip:09100000001:5060;user=phone", "IN"),
        ("PJSIP/+919100000001", ""), ("SIP/09100000001", "IN"), ("011919100000001", "US"),
    ],
)  # fmt: skip
def test_one_number_is_one_phone_in_every_spelling(said: str, region: str) -> None:
    assert canonical_phone(said, region) == "+919100000001"
    assert require_phone(said, region) == "+919100000001"


@pytest.mark.parametrize(
    ("said", "region", "read"),
    [
        ("6592345678", "US", "+16592345678"),  # a valid number there, and one of Singapore with its country code
        ("6592345678", "", "+6592345678"),
        ("9112025550123", "IN", "+9112025550123"),  # not valid yet, perhaps: the region's own country code stands first
        ("12025550123", "IN", "+12025550123"),
        ("2025550123", "US", "+12025550123"),
        ("2025550123", "", "2025550123"),
        ("0039 06 698 12345", "", "+390669812345"),  # Italy keeps its zero
        ("+31 0 0 6446794", "", "+316446794"),
        ("09100000001", "IN", "+919100000001"),  # valid as a national number, though it begins with the country code
        ("0919100000001", "", "0919100000001"),  # without a country
        ("0919100000001", "US", "0919100000001"),
        ("0447911123456", "GB", "+447911123456"),
    ],
)
def test_a_number_that_can_be_read_in_two_ways_is_read_by_the_rule(said: str, region: str, read: str) -> None:
    assert canonical_phone(said, region) == read


@pytest.mark.parametrize(
    "said",
    [
        "anonymous",
        "+",
        "12",
        "1-800-FLOWERS",
        "sip:alice@host",
        "customer 9100000001",
        "Mobile: (none)",
        "PJSIP/alice",
        "a: b: 9100000001",
        "(Mobile)",
        "+0",
        "tel:",
        "1" * 40,
        "9" * 99,
    ],
)
@pytest.mark.parametrize("region", ["", "IN", "US"])
def test_what_is_no_number_stays_itself(said: str, region: str) -> None:
    assert canonical_phone(f" {said}\n", region) == said
    with pytest.raises(PhoneError):
        require_phone(said, region)


def test_no_phone_is_none() -> None:
    assert [canonical_phone(said, "IN") for said in (None, "", " \t")] == [None, None, None]


@settings(max_examples=400, deadline=None)
@given(region=st.sampled_from(REGIONS), elsewhere=st.sampled_from(["", *REGIONS]), seed=st.integers(0, 2**32))
def test_every_valid_number_is_known_in_every_spelling(region: str, elsewhere: str, seed: int) -> None:
    dice = random.Random(seed)
    number = valid_number(region, dice)
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    for spell in SPELLINGS:
        assert canonical_phone(spell(e164, dice), elsewhere) == e164, spell(e164, random.Random(seed))
    assert canonical_phone(e164[1:], "") == e164
    assert canonical_phone(e164, elsewhere) == normalise_phone(e164, elsewhere) == e164
    national = str(phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL))
    assert canonical_phone(national, phonenumbers.region_code_for_number(number) or region) == e164, national


@settings(max_examples=500, deadline=None)
@given(
    said=st.text(max_size=60)
    | st.text("+0123456789 ()-.;:@x\u00a0\u0967tel", max_size=30)
    | st.text("0123456789", max_size=18),
    region=st.sampled_from(["", "IN", "US", "GB", "IT", "AR", "ZZ"]),
)
@example(said="\ud800 +91", region="IN")
@example(said="%ff%00+91 91000 00001", region="")
def test_reading_never_raises_and_reading_again_changes_nothing(said: str, region: str) -> None:
    read = canonical_phone(said, region)
    assert canonical_phone(read, region) == read
    if read is not None and E164.fullmatch(read):
        assert canonical_phone(read, "") == canonical_phone(read, "BR") == read
    else:
        assert read == (said.strip() or None)


@settings(max_examples=300, deadline=None)
@given(written=st.text("0123456789", min_size=7, max_size=17), region=st.sampled_from(["", "IN", "US", "IT", "RU"]))
def test_what_an_upload_stores_is_known_again(written: str, region: str) -> None:
    for given_as in (written, f"+{written}", f"00{written}"):
        try:
            stored = normalise_phone(given_as, region)
        except PhoneError:
            continue
        assert {canonical_phone(stored, other) for other in ("", "IN", "US", region)} == {stored}


@settings(max_examples=300, deadline=None)
@given(region=st.sampled_from(REGIONS), seed=st.integers(0, 2**32))
def test_a_zero_before_the_country_code_makes_no_other_number(region: str, seed: int) -> None:
    number = valid_number(region, random.Random(seed))
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    written = f"0{e164[1:]}"
    try:
        is_national = phonenumbers.is_valid_number(phonenumbers.parse(written, region))
    except phonenumbers.NumberParseException:
        is_national = False
    if not is_national:
        assert canonical_phone(written, region) == normalise_phone(written, region) == e164


@pytest.mark.parametrize("text", ["+91987654321①", "987654321²0", "+91 98765 43210 ⑴"])
def test_what_is_no_decimal_digit_is_no_digit_of_a_phone(text: str) -> None:
    assert canonical_phone(text, "IN") == text
