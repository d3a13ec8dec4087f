"""The one form in which a phone is stored and compared, wherever it comes from: E.164.

Providers and people write one number in many ways. ``canonical_phone`` reads them all the same way, so that a webhook,
a conversation, a search and an erasure find the same recipient. Text that it cannot read stays unchanged and equals
only itself.

A number without ``+`` or ``00`` is ambiguous. The readings are tried in this order: a valid national number of the
region; a valid number that starts with its country code (``919876543210``); a possible number that starts with the
region's country code; a possible national number. A zero may come before the region's country code
(``0919876543210``). Without a region, only a valid number that starts with its country code is accepted: anything else
would be a guess.
"""

import re
from functools import lru_cache
from urllib.parse import unquote

import phonenumbers
from phonenumbers import NumberParseException

from service.phones.parsing import (
    E164,
    PhoneError,
    fold,
    has_other_digits,
    is_plain_e164,
    normalise_phone,
    parse_national,
    to_e164,
)

MAX_CHARACTERS = 200
"""A longer text is not a phone."""
CACHED = 4096

_ADDRESS = re.compile(r"(?i)\b(?:tel|sips?|callto|whatsapp):([^@;?>:]*)(?:[^>]*;phone-context=(\+[0-9]+))?")
_LABEL = re.compile(r"[^\W\d_][^\d+:/]*[:/](?=\s*[(+]*\d)|\s*\([^\W\d_][^\d()+]*\)\Z")
"""A label before or after a number: ``Mobile: …``, ``PJSIP/…``, ``… (Mobile)``."""
_EXTENSION = re.compile(r"(?i)\s*(?:[;,#]|(?:extension|extn|ext|x)[.:\s]*(?=[0-9]))[\s\S]*")
_FLOAT = re.compile(r"(\+?[0-9]{7,17})\.0+")
_SEPARATORS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ufffd()\[\]{}<>./\\_~'\"`=\u00b7\u2018-\u201d\u2212-]+")
_NUMBER = re.compile(r"(\++|00|)([0-9]{3,17})")


def canonical_phone(value: str | None, region: str) -> str | None:
    """What a provider or a person wrote, in E.164, or else stripped; None where it is empty. Never raises.

    ``region`` is the country, such as IN, of numbers without a country code; "" for none.
    """
    if value is None or is_plain_e164(value):
        return value
    text = value.strip()
    return (_read(text, region) if 0 < len(text) <= MAX_CHARACTERS else text) or None


def require_phone(value: str, region: str) -> str:
    """``value`` in E.164. Raises PhoneError, which does not quote it, where it cannot be read, or holds two numbers."""
    try:
        return normalise_phone(value, region)
    except PhoneError as error:
        phone = canonical_phone(value, region) or ""
        if error.kind == "phone_several" or not E164.fullmatch(phone):
            raise
        return phone


@lru_cache(maxsize=CACHED)
def _read(text: str, region: str) -> str:
    decoded = unquote(text) if "%" in text else text
    if has_other_digits(decoded):
        return text
    written = fold(decoded).strip()
    if address := _ADDRESS.search(written):
        number, context = address.groups()
        written = f"{context or ''}{number.lstrip('0') if context else number}"
    elif is_float := _FLOAT.fullmatch(written):
        written = is_float[1]
    else:
        written = _drop_label(written)
    found = _NUMBER.fullmatch(_SEPARATORS.sub("", _EXTENSION.sub("", written)))
    if found is None:
        return text
    prefix, digits = found.groups()
    international = _read_international(digits)
    if prefix.startswith("+"):
        return international or text
    if prefix and international:
        return international
    return _choose(prefix + digits, region, None if prefix else international) or text


def _drop_label(written: str) -> str:
    label = _LABEL.match(written) or _LABEL.search(written)
    return written[: label.start()] + written[label.end() :] if label else written


def _choose(digits: str, region: str, international: str | None) -> str | None:
    national, is_valid = _read_national(digits, region) if region else (None, False)
    if is_valid:
        return national
    if international and phonenumbers.is_valid_number(phonenumbers.parse(international)):
        return international
    if international and region and digits.startswith(str(phonenumbers.country_code_for_region(region))):
        return international
    return national


def _read_international(digits: str) -> str | None:
    try:
        return normalise_phone(f"+{digits}", "")
    except PhoneError:
        return None


def _read_national(digits: str, region: str) -> tuple[str | None, bool]:
    """The number in E.164, or None if it is impossible; and whether it is valid."""
    try:
        number = parse_national(digits, region)
        return to_e164(number), phonenumbers.is_valid_number(number)
    except (NumberParseException, PhoneError):
        return None, False
