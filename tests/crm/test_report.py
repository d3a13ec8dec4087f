"""The output contains no whole phone number, and masks nothing else."""

import pytest

from service.crm.report import mask


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
def test_phones_are_masked_except_for_their_last_digits(text: str, masked: str) -> None:
    assert mask(text) == masked
