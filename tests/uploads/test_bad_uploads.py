"""An upload that cannot be used: 400 that names line and column, nothing stored, nothing sent to the provider."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.sandbox import RunningSandbox
from service.store.database import Database
from tests.conftest import StartService
from tests.provider import CONTACTS, connect_provider, count_uploads, upload

HEADER = b"customer_phone,customer_name\n"
GOOD = b"+919876543210,Rahul\n"
BAD_FILES = {
    "no phone column": (b"phone,customer_name\n" + GOOD, ["line 1", "customer_phone"]),
    "a phone column by another name": (b"Mobile No,x\n" + GOOD, ["line 1", "customer_phone", "phone_column=Mobile No"]),
    "no header": (GOOD, ["line 1", "customer_phone"]),
    "a phone that is local": (HEADER + GOOD + b"09876543210,Anita\n", ["line 3", "column customer_phone"]),
    "a phone of 16 digits": (HEADER + b"+9198765432101234,Rahul\n", ["line 2", "column customer_phone"]),
    "a short phone in other digits": (HEADER + "+٩١٩٨٧٦٥٤٣,Rahul\n".encode(), ["line 2", "column customer_phone"]),
    "no phone": (HEADER + GOOD + b",Rahul\n", ["line 3", "column customer_phone"]),
    "a bad phone after a cell of two lines": (HEADER + b'+919876543210,"a\nb"\n+1,x\n', ["line 4", "customer_phone"]),
    "an empty file": (b"", ["empty"]),
    "a header and nothing else": (HEADER, ["no recipients"]),
    "blank lines only": (HEADER + b"\n\n", ["no recipients"]),
    "a column twice": (b"customer_phone,a,a\n+919876543210,1,2\n", ["line 1", "column 3", "'a'"]),
    "the phone column twice": (b"customer_phone,customer_phone\n+919876543210,+919876543210\n", ["line 1", "column 2"]),
    "a column without a name": (b"customer_phone,\n+919876543210,1\n", ["line 2", "column 2 (B)"]),
    "the reference's own column": (
        b"customer_phone,outcome_ref\n+919876543210,1\n",
        ["line 1", "column 2", "reserved"],
    ),
    "damaged UTF-8": (HEADER + GOOD + "+919812345678,René".encode() + b"\xe9\n", ["line 3", "customer_name", "UTF-8"]),
    "a cell too many": (HEADER + GOOD + b"+919812345678,Anita,more\n", ["line 3", "3 cells"]),
    "a cell too few": (HEADER + b"+919812345678\n", ["line 2", "1 cell"]),
    "a NUL": (HEADER + b"+919876543210,Ra\x00hul\n", ["line 2", "NUL"]),
    "a quote that never ends": (HEADER + GOOD + b'+919812345678,"Anita\n', ["line 3", "CSV"]),
}


@pytest.fixture
async def provider(start_service: StartService) -> AsyncIterator[tuple[httpx.AsyncClient, RunningSandbox]]:
    async with connect_provider(start_service) as both:
        yield both


async def assert_nothing_happened(database: Database, sandbox: RunningSandbox) -> None:
    assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0
    assert await database.pool.fetchval("SELECT count(*) FROM recipients") == 0
    assert count_uploads(sandbox) == (0, 0)


async def test_a_file_that_cannot_be_used_is_refused_by_line_and_column_before_anything_happens(
    provider: tuple[httpx.AsyncClient, RunningSandbox], database: Database, subtests: pytest.Subtests
) -> None:
    service, sandbox = provider
    for name, (content, expected) in BAD_FILES.items():
        with subtests.test(name):
            answer = await upload(service, content)
            error = answer.json()["error"]
            assert (answer.status_code, error["type"]) == (400, "invalid_request")
            assert error["message"].startswith("file: ")
            assert [word for word in expected if word not in error["message"]] == [], error["message"]
            await assert_nothing_happened(database, sandbox)


async def test_an_error_late_in_a_long_file_takes_back_what_was_stored_before(
    provider: tuple[httpx.AsyncClient, RunningSandbox], database: Database
) -> None:
    service, sandbox = provider
    rows = b"".join(b"+91%d,Rahul\n" % (9_800_000_000 + n) for n in range(5000))
    answer = await upload(service, HEADER + rows + b"+919,Anita\n")
    assert (answer.status_code, "line 5002" in answer.json()["error"]["message"]) == (400, True)
    await assert_nothing_happened(database, sandbox)


async def test_no_error_repeats_a_value_of_the_file(provider: tuple[httpx.AsyncClient, RunningSandbox]) -> None:
    service, _ = provider
    for row in (
        b"09812345678,Rahul",
        b"+919812345678,Ra\x00hul",
        b"+919812345678,Rahul,Rahul",
        b'+919812345678,"Rahul',
    ):
        message = (await upload(service, HEADER + row + b"\n")).json()["error"]["message"]
        assert "Rahul" not in message
        assert "9812345678" not in message


async def test_a_missing_field_is_named(provider: tuple[httpx.AsyncClient, RunningSandbox], database: Database) -> None:
    service, sandbox = provider
    fields = {"agent_id": (None, "123"), "name": (None, "March"), "file": ("contacts.csv", CONTACTS)}
    for missing in fields:
        given = {name: value for name, value in fields.items() if name != missing}
        answer = await service.post("/v1/batch-call", files=given)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
        assert answer.json()["error"]["message"].startswith(f"{missing}: ")
    await assert_nothing_happened(database, sandbox)


async def test_a_field_that_cannot_be_used_is_named(
    provider: tuple[httpx.AsyncClient, RunningSandbox], database: Database
) -> None:
    service, sandbox = provider
    wrong = {
        "agent_id": ["", "abc", "-1", "1.5", "9" * 20, "9" * 5000, "١٢٣"],
        "name": ["", "   ", "x" * 201, "a\x00b"],
    }
    for field, values in wrong.items():
        for value in values:
            answer = await upload(service, **{field: value})
            assert answer.status_code == 400, (field, value)
            assert answer.json()["error"]["message"].startswith(f"{field}: ")
    answer = await service.post("/v1/batch-call", data={"agent_id": "123", "name": "x", "file": CONTACTS}, files={})
    assert answer.status_code == 400
    await assert_nothing_happened(database, sandbox)


NO_FORMS = {
    "JSON": ("application/json", b"{}"),
    "a form without files": ("application/x-www-form-urlencoded", b"agent_id=123"),
    "no boundary": ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
    "another boundary": ("multipart/form-data; boundary=y", b"--x\r\n\r\n--x--\r\n"),
    "nothing": ("multipart/form-data; boundary=x", b""),
    "no header of a part": ("multipart/form-data; boundary=x", b"--x\r\n\r\nvalue\r\n--x--\r\n"),
    "two files": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n1\r\n' * 2 + b"--x--\r\n",
    ),
}


async def test_what_is_no_form_is_refused_in_the_common_shape(
    provider: tuple[httpx.AsyncClient, RunningSandbox], database: Database, subtests: pytest.Subtests
) -> None:
    service, sandbox = provider
    for name, (content_type, content) in NO_FORMS.items():
        with subtests.test(name):
            answer = await service.post("/v1/batch-call", content=content, headers={"content-type": content_type})
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")
            assert answer.json()["error"]["message"]
    await assert_nothing_happened(database, sandbox)


async def test_without_a_key_for_the_provider_an_upload_is_not_possible_and_says_which_setting_it_takes(
    service: httpx.AsyncClient, database: Database
) -> None:
    answer = await upload(service)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
    assert "FORMANT_API_KEY" in answer.json()["error"]["message"]
    assert await database.pool.fetchval("SELECT count(*) FROM batches") == 0
