"""Phones in files and requests: normalised to E.164 with Google's metadata, or refused with a reason.

A phone that is read wrongly calls somebody else, so nothing is guessed that the text does not show:

- With ``+`` or ``00`` the country is known. Any possible number is accepted, also one that is not in use as far as the
  metadata know: they age, and only the provider knows which numbers it can call.
- Without, the number must be valid in the region's plan, alone or after its country code (``919876543210``). Where the
  region was stated for the very file, a number that has the plan's form and a subscriber's length is enough.
- A national number of fewer than eight digits must begin with the trunk prefix, in a country that has one: without it,
  a postcode, an order number and a spreadsheet's day are numbers of some town.
- Digits are joined across blanks, hyphens and parentheses, and across nothing else. Only decimal digits count.

The library takes about 50 µs per number. A number in plain E.164 whose length fits its country code does not need it,
and neither does a valid national number without a prefix.
"""

import re
import unicodedata

import phonenumbers
from phonenumbers import NumberParseException, ValidationResult

from service.phones.plans import Plan, find_origin, find_plan, find_plans, split_code

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
LIKELY_REGIONS = ("IN", "US", "GB", "AE", "SG", "AU", "ZA", "NG", "KE", "GH", "PK", "BD", "PH", "ID", "MX", "BR", "DE")
"""Regions that an error names where a number without a country would be valid there."""
MAX_CELL_CHARACTERS = 100
"""A longer cell is not a phone. It bounds the time of what follows."""
_SHORTEST_GUESSED = 8
"""Fewer digits, without a trunk prefix or a country code, could be anything."""
_JOINED = re.compile(r"\(?\+?[0-9][0-9 ()-]*")
_INTEGER = re.compile(r"(\+?[0-9]+)\.0+")
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
_DATE = re.compile(
    r"[0-9]{1,2}([-/. ])[0-9]{1,2}\1(?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}([-/. ])[0-9]{1,2}\2[0-9]{1,2}"
    r"|[0-9]{1,2}([-/.])[0-9]{1,2}\3[0-9]{2}|(?:19|20)[0-9]{2}[-/.][0-9]{1,2}"
)
_AMERICAN = re.compile(r"\([0-9]{3}\) ?[0-9]{3}-[0-9]{4}|[2-9][0-9]{2}-[2-9][0-9]{2}-[0-9]{4}")
"""As the countries of the code 1 write their numbers, and others hardly do."""
_LAST_GROUP = re.compile(r"(.*[0-9)])[ -]+[0-9]{1,4}")
_BETWEEN = re.compile(r"[^0-9()+ -]+|(?<=[0-9]) *(?=\(?\+)")
_EXTENSION = re.compile(r"(?i)[0-9] *(?:[;,]? *ext(?:ension|n)?[.:= ]*|x|#) *[0-9]+\Z")
_FORMULA = re.compile(r'="?([^"]*)"?')
_LABEL = re.compile(r"\A(?!.*fax)[^\W\d_](?:[^\W\d_]|[ .-])*: *(?=\+)", re.IGNORECASE)
_LABEL_BEHIND = re.compile(r" *\((?!.*fax)[^\d()]*[^\W\d_][^\d()]*\)\Z", re.IGNORECASE)
"""``mobile: +91…``, ``+91… (WhatsApp)``. Not of a fax, which nobody answers."""
_DIGITS_BEHIND = re.compile(r"[0-9)] *\([^()]*[0-9][^()]*\)\Z")
_BLANK = frozenset({"", "-", "--", "0", ".", "n/a", "#n/a", "na", "nan", "nil", "none", "null", "unknown", "#ref!"})
_SPELLING = "write + and 7 to 15 digits, such as +919876543210"


class PhoneError(ValueError):
    """A value that is not a phone: the kind of problem, the problem, and its remedy."""

    def __init__(self, kind: str, problem: str, remedy: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.problem = problem
        self.remedy = remedy


def normalise_phone(value: str, region: str, *, is_stated: bool = False) -> str:
    """``value`` in E.164. Raises PhoneError, which does not quote it.

    ``region`` is the country of numbers without a country code, "" for none; ``is_stated``: it is known of these very
    numbers, and no default.
    """
    return value if is_plain_e164(value) else parse_phone(value, region, is_stated=is_stated)


def is_plain_e164(value: str) -> bool:
    """Whether the library would return ``value`` unchanged, judged only by the lengths of its country code."""
    if not E164.fullmatch(value):
        return False
    code = split_code(value[1:])
    if not code:
        return False
    digits = value[1 + len(code) :]
    plans = find_plans(code)
    return bool(plans) and len(digits) in plans[0].possible_lengths and not _has_prefix(plans[0], digits)


def parse_phone(value: str, region: str, *, is_stated: bool = False) -> str:
    """``value`` in E.164, read in any spelling; see ``normalise_phone``."""
    value = value.strip()
    if len(value) > MAX_CELL_CHARACTERS or has_other_digits(value):
        raise PhoneError("phone_unreadable", "is not a phone number", _SPELLING)
    text = _unwrap(value)
    _refuse_other_content(text)
    try:
        if text.startswith("00"):
            return _read_dialled(text, region)
        if text.lstrip("(").startswith("+"):
            return _read_international(text)
        return _read_national(text, region, is_stated=is_stated)
    except NumberParseException as error:
        raise _explain(error.error_type) from error


def has_other_digits(text: str) -> bool:
    """Whether a character is no decimal digit, but is folded to one: a footnote's ¹, ①, ½."""
    return not text.isascii() and any(
        not character.isdecimal() and any(map(str.isdecimal, unicodedata.normalize("NFKC", character)))
        for character in text
        if not character.isascii()
    )


def fold(text: str) -> str:
    """``text`` with digits, dashes and spaces of any script in ASCII, and without invisible characters."""
    if text.isascii():
        return text
    # First without combining characters: the time to order them grows with the square of their number.
    return unicodedata.normalize("NFKC", text.translate(_FOLDED)).translate(_FOLDED)


class _Folded(dict[int, str]):
    """Maps code points to their folded characters; caches each result."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        category = "" if point < 128 else unicodedata.category(character)
        if unicodedata.combining(character):
            category = "Mn"
        if category == "Nd":
            character = str(unicodedata.decimal(character))
        folded = self[point] = {"Pd": "-", "Zs": " ", "Cf": "", "Mn": ""}.get(category, character)
        return folded


_FOLDED = _Folded()


def _unwrap(value: str) -> str:
    """The number without what spreadsheets and address books put around it: ``'+91…``, ``="+91…"``, ``tel:+91…``."""
    text = fold(value).strip()
    if formula := _FORMULA.fullmatch(text):
        text = formula[1].strip()
    text = text.strip("'\"`\u2018\u2019\u201c\u201d").strip()
    if text[:4].lower() == "tel:":
        text = text[4:].strip()
    text = _LABEL_BEHIND.sub("", _LABEL.sub("", text, count=1))
    integer = _INTEGER.fullmatch(text)
    return integer[1] if integer else text


def _refuse_other_content(text: str) -> None:
    """Refuses what is not one number: nothing, a damaged number, a date, several numbers, an extension, text."""
    if text.lower() in _BLANK:
        raise PhoneError("phone_missing", "holds no phone number", "fill it in, or remove the row")
    if _SCIENTIFIC.fullmatch(text):
        raise PhoneError(
            "phone_scientific", "was shortened by a spreadsheet (like 9.19877E+11), which lost digits",
            "format the column as text in the spreadsheet, enter the numbers again, and export it again",
        )  # fmt: skip
    if _DATE.fullmatch(text):
        raise PhoneError("phone_date", "is a date", "check which column holds the phone numbers")
    if _DIGITS_BEHIND.search(text):
        raise _refuse_digits_behind()
    if _JOINED.fullmatch(text):
        return
    if sum(_count_digits(part) >= 7 for part in _BETWEEN.split(text)) > 1:
        raise PhoneError("phone_several", "holds two phone numbers", "leave one, and put the other in its own column")
    if _EXTENSION.search(text):
        raise PhoneError("phone_extension", "has an extension, which cannot be called", "give the number without it")
    separator = re.search(r"[0-9] *([^0-9 ()+-]+) *[0-9]", text)
    if separator and _count_digits(text) >= 7:
        raise PhoneError(
            "phone_separator", f"has {separator[1][:5].strip()!r} between its digits, so it may not be one number",
            "write the number with blanks or hyphens only, or remove what does not belong to it",
        )  # fmt: skip
    raise _explain(NumberParseException.NOT_A_NUMBER)


def _read_international(text: str) -> str:
    e164 = to_e164(phonenumbers.parse(text))
    shorter = _LAST_GROUP.fullmatch(text)
    if shorter and not find_origin(e164).is_valid and _is_valid(shorter[1]):
        raise _refuse_digits_behind()
    return e164


def _refuse_digits_behind() -> PhoneError:
    return PhoneError(
        "phone_extension", "has digits behind its end, such as an extension or a count", "give the number without them"
    )


def _read_dialled(text: str, region: str) -> str:
    """A number behind the digits that are dialled for a call abroad: 00, as files write it, or the region's own."""
    plan = find_plan(region) if region else None
    dialled = plan.exit_code.match(text) if plan and plan.exit_code else None
    texts = dict.fromkeys(f"+{text[length:].lstrip()}" for length in (2, dialled.end() if dialled else 2))
    valid = {_read_international(one) for one in texts if _is_valid(one)}
    if len(valid) > 1:
        raise PhoneError("phone_ambiguous", "may begin with 00 or with another exit code", "write it with +")
    return valid.pop() if valid else _read_international(next(iter(texts)))


def _is_valid(text: str) -> bool:
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(text)))
    except NumberParseException:
        return False


def _count_digits(text: str) -> int:
    return sum(map(str.isdecimal, text))


def _read_national(text: str, region: str, *, is_stated: bool) -> str:
    digits = phonenumbers.normalize_digits_only(text)
    plan = find_plan(region) if region else None
    if plan is None:
        raise _ask_for_country(text, digits)
    if plan.trunk_prefix and len(digits) < _SHORTEST_GUESSED:
        _refuse_short(digits, plan)
    code = str(phonenumbers.country_code_for_region(region))
    e164 = f"+{code}{digits}"
    abroad = f"+{digits}" if digits.startswith(code) and find_origin(f"+{digits}").is_valid else ""
    if _AMERICAN.fullmatch(text) and code != "1" and not is_stated and find_origin(f"+1{digits}").is_valid:
        raise _refuse_unused(f"1{digits}", region)
    if not abroad and not _has_prefix(plan, digits) and plan.is_valid(digits) and is_plain_e164(e164):
        return e164
    number = parse_national(text, region)
    if phonenumbers.is_valid_number(number):
        found = to_e164(number)
        if abroad not in {"", found}:
            raise PhoneError(
                "phone_ambiguous", f"may begin with the country code of {_name_region(region)}, or may not",
                "write it with +, or with the 0 that is dialled inside the country",
            )  # fmt: skip
        return found
    if abroad:
        return abroad
    national = phonenumbers.national_significant_number(number)
    has_form = plan.general.fullmatch(national) is not None and len(national) in plan.subscriber_lengths
    is_elsewhere = code != "1" and _AMERICAN.fullmatch(text) is not None
    if is_stated and has_form and not is_elsewhere:
        return to_e164(number)
    raise _refuse_unused(digits, region)


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


def _has_prefix(plan: Plan, digits: str) -> bool:
    """Whether the library would take something off the front of a national number."""
    return plan.national_prefix is not None and plan.national_prefix.match(digits) is not None


def _ask_for_country(text: str, digits: str) -> PhoneError:
    problem = "is not a phone number in E.164, it has no country code"
    origin = find_origin(f"+{digits}") if E164.fullmatch(f"+{digits}") else None
    if origin and origin.is_valid:
        return PhoneError(
            "phone_country", f"{problem}; with + it is a valid number of {_name_region(origin.region)}",
            f"write the + in front of it, or send region={origin.region}",
        )  # fmt: skip
    regions = [region for region in LIKELY_REGIONS if _is_valid_in(digits, region)]
    if _AMERICAN.fullmatch(text):
        regions = ["US"]
    meanings = [f"region={region} if it is a number of {_name_region(region)}" for region in regions[:3]]
    remedy = f"{_SPELLING}, or send region=, the country of the numbers without one, such as region=IN"
    if meanings:
        remedy = f"{_SPELLING}, or send {', '.join(meanings)}"
    return PhoneError("phone_country", problem, remedy)


def _refuse_unused(digits: str, region: str) -> PhoneError:
    problem = f"is not a phone number of {_name_region(region)}"
    origin = find_origin(f"+{digits}") if E164.fullmatch(f"+{digits}") else None
    if origin and origin.is_valid:
        return PhoneError(
            "phone_unused", f"{problem}; with + it is a valid number of {_name_region(origin.region)}",
            "if that is meant, write the + in front of it",
        )  # fmt: skip
    return PhoneError("phone_unused", problem, "correct it, or write it with + and its country code")


def _refuse_short(digits: str, plan: Plan) -> None:
    if not digits.startswith(plan.trunk_prefix):
        raise PhoneError(
            "phone_unused", "is too short to be surely a phone number, and not a postcode, a day or an order number",
            f"write it with + and its country code, or with the {plan.trunk_prefix} that is dialled in front of it",
        )  # fmt: skip


def _is_valid_in(digits: str, region: str) -> bool:
    plan = find_plan(region)
    return plan is not None and (plan.is_valid(digits) or plan.is_valid(digits.removeprefix("0")))


def _name_region(region: str) -> str:
    return _NAMES.get(region, region)


_NAMES = {
    "IN": "India", "US": "the United States", "GB": "the United Kingdom", "AE": "the United Arab Emirates",
    "SG": "Singapore", "AU": "Australia", "ZA": "South Africa", "NG": "Nigeria", "KE": "Kenya", "GH": "Ghana",
    "PK": "Pakistan", "BD": "Bangladesh", "PH": "the Philippines", "ID": "Indonesia", "MX": "Mexico", "BR": "Brazil",
    "DE": "Germany",
}  # fmt: skip


def _explain(error_type: int) -> PhoneError:
    problem = "is not a phone number in E.164"
    if error_type == NumberParseException.INVALID_COUNTRY_CODE:
        return PhoneError("phone_country", f"{problem}, its country code is unknown", _SPELLING)
    if error_type == NumberParseException.TOO_LONG:
        return PhoneError("phone_length", f"{problem}, it is too long for its country", _SPELLING)
    if error_type == NumberParseException.NOT_A_NUMBER:
        return PhoneError("phone_unreadable", problem, _SPELLING)
    return PhoneError("phone_length", f"{problem}, it is too short for its country", _SPELLING)
