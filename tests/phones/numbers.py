"""Valid numbers of all regions, in every spelling."""

import random
import re
from collections.abc import Callable

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
DIGITS = ["٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "০১২৩৪৫৬৭৮৯", "０１２３４５６７８９"]
SPACES = [" ", "\u00a0", "\u2009", "\u200b", "-", "\u2011", ".", " - ", "/", "\u200e"]


def spell_plus(e164: str, dice: random.Random) -> str:
    return dice.choice(["+", "00", "＋", "tel:+", "++", " + "]) + e164[1:]


def spell_scheme(e164: str, dice: random.Random) -> str:
    host = dice.choice(["10.1.2.3:5060;user=phone", "example.org"])
    return dice.choice([f"tel:{e164};ext=4", f"sip:{e164}@{host}", f"<sips:{e164}@{host}>", f"{e164} x12"])


def spell_spaced(e164: str, dice: random.Random) -> str:
    spaced = "+" + "".join(digit + (dice.choice(SPACES) if dice.random() < 0.3 else "") for digit in e164[1:])
    return re.sub(r"\.0\W*$", "0", spaced)  # as data frames write an integer


def spell_script(e164: str, dice: random.Random) -> str:
    digits = dice.choice(DIGITS)
    return "+" + "".join(digits[int(digit)] for digit in e164[1:])


def spell_formatted(e164: str, dice: random.Random) -> str:
    style = dice.choice([PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.RFC3966])
    return str(phonenumbers.format_number(phonenumbers.parse(e164), style))


SPELLINGS: list[Callable[[str, random.Random], str]] = [
    spell_plus, spell_scheme, spell_spaced, spell_script, spell_formatted,
]  # fmt: skip


def valid_number(region: str, dice: random.Random) -> phonenumbers.PhoneNumber:
    """A valid number: an example of the library, with some digits changed while it stays valid."""
    kind = dice.choice([PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE])
    number = phonenumbers.example_number_for_type(region, kind) or phonenumbers.example_number(region)
    assert number is not None
    for _ in range(8):
        changed = phonenumbers.PhoneNumber()
        changed.merge_from(number)
        changed.national_number = (number.national_number or 0) + dice.randint(-5000, 5000)
        number = changed if phonenumbers.is_valid_number(changed) else number
    return number
