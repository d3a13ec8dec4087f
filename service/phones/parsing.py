"""Phones in files and requests: normalised to E.164 with Google's metadata, or refused with a reason.

The library takes about 50 µs per number. A number in plain E.164 whose length fits its country code does not need it.
A number is never refused for an unknown prefix: metadata ages, and only the provider knows which numbers it can call.
"""

import re
from functools import cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, ValidationResult

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_WRITTEN = re.compile("\\(?\\+?[0-9 ().\\-/\u00a0\u2010-\u2015]+")
_SPELLING = "write + and 7 to 15 digits, such as +919876543210"


class PhoneError(ValueError):
    """A value that is not a phone: the kind of problem, the problem, and its remedy."""

    def __init__(self, kind: str, problem: str, remedy: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.problem = problem
        self.remedy = remedy


def normalise_phone(value: str, default_region: str) -> str:
    """``value`` in E.164. Raises PhoneError, which does not quote it."""
    return value if is_plain_e164(value) else parse_phone(value, default_region)


def is_plain_e164(value: str) -> bool:
    """Whether the library would return ``value`` unchanged, judged only by the lengths of its country code."""
    if not E164.fullmatch(value):
        return False
    for digits in (2, 3, 4):
        rule = _read_rule(value[1:digits])
        if rule is not None:
            lengths, prefix = rule
            return len(value) - digits in lengths and not (prefix and prefix.match(value, digits))
    return False


def parse_phone(value: str, default_region: str) -> str:
    """``value`` in E.164, read by the library in any spelling. Raises PhoneError."""
    text = value.strip()
    if not text:
        raise PhoneError("phone_missing", "is not a phone number in E.164, it is empty", _SPELLING)
    if text.startswith("00"):
        text = "+" + text[2:]
    is_international = text.lstrip("(").startswith("+")
    try:
        number = phonenumbers.parse(text) if is_international else parse_national(text, default_region or "IN")
    except NumberParseException as error:
        raise _explain(error.error_type) from error
    if number.extension:
        raise PhoneError("phone_extension", "has an extension, which cannot be called", "give the number without it")
    if not _WRITTEN.fullmatch(text):
        raise _explain(NumberParseException.NOT_A_NUMBER)
    if not is_international and not default_region:
        raise PhoneError(
            "phone_country", "is not a phone number in E.164, it has no country code",
            f"{_SPELLING}, or set OUTCOMES_DEFAULT_REGION",
        )  # fmt: skip
    return to_e164(number)


def parse_national(text: str, region: str) -> phonenumbers.PhoneNumber:
    """Reads a number without ``+`` as one of the region. If that is invalid, a zero and the region's country code in
    front (``0919876543210``) are accepted where that gives a valid number. Raises NumberParseException."""
    number = phonenumbers.parse(text, region)
    digits = phonenumbers.normalize_digits_only(text)
    rest = digits.lstrip("0")
    is_prefixed = rest != digits and rest.startswith(str(phonenumbers.country_code_for_region(region)))
    if number.extension or not is_prefixed or phonenumbers.is_valid_number(number):
        return number
    international = phonenumbers.parse(f"+{rest}")
    return international if phonenumbers.is_valid_number(international) else number


def to_e164(number: phonenumbers.PhoneNumber) -> str:
    """A possible number in E.164, so that parsing it again gives the same. Raises PhoneError for any other number."""
    reason = phonenumbers.is_possible_number_with_reason(number)
    e164: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if reason != ValidationResult.IS_POSSIBLE or not E164.fullmatch(e164):
        is_long = reason == ValidationResult.TOO_LONG or len(e164) > 16
        raise _explain(NumberParseException.TOO_LONG if is_long else NumberParseException.TOO_SHORT_NSN)
    if is_plain_e164(e164):
        return e164
    # The library removes only one national prefix; +31 0 0 6… has two. Each round shortens the number.
    try:
        again = phonenumbers.parse(e164)
    except NumberParseException:
        return e164
    is_same = phonenumbers.format_number(again, phonenumbers.PhoneNumberFormat.E164) == e164
    return e164 if is_same else to_e164(again)


@cache
def _read_rule(code: str) -> tuple[frozenset[int], re.Pattern[str] | None] | None:
    """The lengths of a country code's national numbers, and the pattern of the national prefix to remove."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code))
    if regions is None:
        return None
    if regions[0] == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY:
        metadata = PhoneMetadata.metadata_for_nongeo_region(int(code))
    else:
        metadata = PhoneMetadata.metadata_for_region(regions[0])
    if metadata is None or metadata.general_desc is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    return frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None


def _explain(error_type: int) -> PhoneError:
    problem = "is not a phone number in E.164"
    if error_type == NumberParseException.INVALID_COUNTRY_CODE:
        return PhoneError("phone_country", f"{problem}, its country code is unknown", _SPELLING)
    if error_type == NumberParseException.TOO_LONG:
        return PhoneError("phone_length", f"{problem}, it is too long for its country", _SPELLING)
    if error_type == NumberParseException.NOT_A_NUMBER:
        return PhoneError("phone_unreadable", problem, _SPELLING)
    return PhoneError("phone_length", f"{problem}, it is too short for its country", _SPELLING)
