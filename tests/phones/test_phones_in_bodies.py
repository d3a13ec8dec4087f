"""Whether a body names a person, however it is encoded and however the number is written."""

import json
import random

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.phones.bodies import MAX_NUMBERS, calling_code, find_numbers, names_phone
from tests.phones.numbers import REGIONS, SPELLINGS, valid_number

PHONE = "+919876543210"
WRITTEN = [
    "+919876543210", "919876543210", "9876543210", "09876543210", "00919876543210", "01191 9876543210", "98765 43210",
    "98765-43210", "+91 (0) 98765.43210", "98/76/54/32/10", "9 8 7 6 5 4 3 2 1 0", "９８７６５４３２１０", "९८७६५४३२१०",
    "98765\u00a043210", "98765\u200b43210",
    "tel:+91-9876-543-210;ext=3", "987654321\\u0030", "\\u0039876543210",
    "\\\\u0039876543210", "%2B919876543210", "98765%2043210", "9876543210.0",
    "1234567 9876543210 7654321", "x9876543210y",
]  # fmt: skip
UNNAMED = [
    "+919876543211", "19876543210", "98765432101", "9876543 211", "987654321", "", "91", "98765x43210",
    "\\u003987654321",
    "2026-03-16T10:30:00.876543", "+18765432109876543210",
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def wrap(written: str, encoding: str) -> bytes:
    return f'{{"data": {{"call": {{"note": "{written}", "other": [1, 22, 333]}}}}, "cut off'.encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("written", WRITTEN)
def test_a_body_that_names_the_person_is_found(written: str, encoding: str) -> None:
    assert names_phone(wrap(written, encoding), PHONE)
    digits = {number.lstrip("0") for number in find_numbers(wrap(written, encoding))}
    assert digits & {"919876543210", "9876543210"} or "011" in written or "(0)" in written


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("written", UNNAMED)
def test_one_that_does_not_is_not(written: str, encoding: str) -> None:
    assert not names_phone(wrap(written, encoding), PHONE)


def test_a_number_as_json_number_and_a_whole_json_document_are_read() -> None:
    assert names_phone(b"9876543210", PHONE)
    assert names_phone(json.dumps({"to_phone": 919876543210}).encode(), PHONE)
    assert names_phone(json.dumps(json.dumps({"to_phone": "９８７６５４３２１０"})).encode(), PHONE)


def test_a_short_national_number_needs_its_country_code() -> None:
    phone = "+29022158"  # Saint Helena
    assert not names_phone(b'{"code": 22158}', phone)
    assert names_phone(b'{"phone": "290 22158"}', phone)
    assert names_phone(b'{"phone": "+290-22158"}', phone)


@settings(max_examples=300, deadline=None)
@given(region=st.sampled_from(REGIONS), seed=st.integers(0, 2**32), encoding=st.sampled_from(ENCODINGS))
def test_every_valid_number_is_found_in_every_spelling(region: str, seed: int, encoding: str) -> None:
    dice = random.Random(seed)
    number = valid_number(region, dice)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    for spell in SPELLINGS:
        written = spell(e164, dice)
        assert names_phone(wrap(written, encoding), e164), written
    national = phonenumbers.national_significant_number(number)
    if len(national) >= 7:
        assert names_phone(wrap(national, encoding), e164)
    assert e164[1:] == calling_code(e164) + national


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-16")))
def test_nothing_makes_it_raise(body: bytes) -> None:
    names_phone(body, PHONE)
    assert len(find_numbers(body)) <= MAX_NUMBERS


def test_the_numbers_of_a_large_body_are_bounded() -> None:
    body = " ".join(str(number) for number in range(10**9, 10**9 + 200_000)).encode()
    assert len(find_numbers(body)) == MAX_NUMBERS
    assert find_numbers(b"1" * 5_000_000) == []
