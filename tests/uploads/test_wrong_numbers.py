"""What is not one number of one person is not dialled, whatever the settings guess."""

import pytest

from tests.conftest import StartService
from tests.provider import connect_provider, count_uploads, upload
from tests.uploads.sampling import phones_of

WRONG = [
    "+91 98765-43210/11", "14155550100", "28-11-2026", "560001 080", "(555) 123-4567", "+919876543210.5", "98765.43210",
    "98765,43210", "9876543210; 9876543211", "+919876543210 / +919876543211", "9.19877E+11", "N/A", "0", "-", "1200.50",
    "Fax: +919876543210", "9876543210 ext 5", "+91987654321¹", "+91 9876543210 (2)", "9876543210 (2)",
    "9876543210 or 9876543211", "12345678", "987654321", "98765432100",
]  # fmt: skip
RIGHT = {
    "+919876543201.0": "+919876543201", "919876543202.0": "+919876543202", "9876543203": "+919876543203",
    "'+919876543204": "+919876543204", '"=""+919876543205"""': "+919876543205", "tel:+91 98765 43206": "+919876543206",
    "p:+919876543207": "+919876543207", "mobile: +919876543208 (WhatsApp)": "+919876543208",
    "+14155550100": "+14155550100", "+15551234567": "+15551234567",
}  # fmt: skip


async def test_a_wrong_number_refuses_the_file_and_calls_nobody(
    start_service: StartService, subtests: pytest.Subtests
) -> None:
    async with connect_provider(start_service, OUTCOMES_DEFAULT_REGION="IN") as (service, sandbox):
        for cell in WRONG:
            with subtests.test(cell):
                answer = await upload(
                    service, f'customer_phone,name\n+919876543299,Asha\n"{cell}",Ravi\n+919876543298,Meera\n'
                )
                message = answer.json()["error"]["message"]
                assert (answer.status_code, message.startswith("file: line 3, column customer_phone:")) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_only_the_right_numbers_of_a_file_are_called(start_service: StartService) -> None:
    rows = [*(f'"{cell}"' for cell in WRONG), *RIGHT]
    content = "customer_phone,name\n" + "".join(f"{cell},{number}\n" for number, cell in enumerate(rows))
    async with connect_provider(start_service, OUTCOMES_DEFAULT_REGION="IN") as (service, sandbox):
        answer = (await upload(service, content, invalid="skip")).json()["data"]
        assert phones_of(sandbox, answer["id"]) == list(RIGHT.values())
        assert answer["file"]["countries"] == {"IN": 8, "US": 1, "+1": 1}
        assert (answer["file"]["unlikely"], answer["file"]["skipped"]) == (1, len(WRONG))
