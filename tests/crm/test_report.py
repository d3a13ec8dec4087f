"""What is shown holds no whole phone number, and does not cover what is none."""

import pytest

from service.crm.records import SKIPS
from service.crm.report import WHY, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+919876543210", "•••10"),
        ("phone +91 98765 43210 is not valid", "phone •••10 is not valid"),
        ("919876543210", "•••10"),
        ("98765 43210", "•••10"),
        ("+1 (212) 555-0134", "•••34"),
        ("LN-12345", "LN-12345"),
        ("2026-03-16T10:30:00.000Z", "2026-03-16T10:30:00.000Z"),
        ("2026-03-16", "2026-03-16"),
        ("456-7", "456-7"),
        ("15000", "15000"),
        ("e36853de-9cbb-441e-ad75-d3c8ac82abfb_1", "e36853de-9cbb-441e-ad75-d3c8ac82abfb_1"),
    ],
)
def test_phones_are_covered_but_for_their_last_digits(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_every_reason_of_not_sending_is_explained() -> None:
    assert WHY.keys() == set(SKIPS)
