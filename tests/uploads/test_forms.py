"""Forms as clients send them."""

import gzip
from collections.abc import AsyncIterator

import pytest

from tests.conftest import StartService
from tests.provider import CONTACTS, connect_provider, count_uploads

FIELDS = (("agent_id", "123"), ("name", "März"))
FORM = "multipart/form-data; boundary=b"


def write_form(file_head: str, *, line_end: str = "\r\n", fields: tuple[tuple[str, str], ...] = FIELDS) -> bytes:
    parts = [f'Content-Disposition: form-data; name="{name}"\n\n{value}' for name, value in fields]
    parts.append(f"{file_head}\n\n{{file}}")
    text = "".join(f"--b\n{part}\n" for part in parts) + "--b--\n"
    return text.replace("\n", line_end).replace("{file}", CONTACTS).encode()


HEADS = {
    "a plain name": 'Content-Disposition: form-data; name="file"; filename="contacts.csv"',
    "only an encoded name": "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''kontakte%20%C3%A4.csv",
    "both names": 'Content-Disposition: form-data; name="file"; filename="a.csv"; filename*=UTF-8\'\'%C3%A4.csv',
    "no name": 'Content-Disposition: form-data; name="file"\nContent-Type: text/csv',
    "an empty name": 'Content-Disposition: form-data; name="file"; filename=""',
    "no quotes": "Content-Disposition: form-data; name=file; filename=contacts.csv",
    "headers in other cases": 'content-disposition: Form-Data; Name="file"; FileName="contacts.csv"',
    "another type": 'Content-Disposition: form-data; name="file"; filename="a"\nContent-Type: application/vnd.ms-excel',
    "a name with quotes": 'Content-Disposition: form-data; name="file"; filename="a;b\\"c.csv"',
    "a name outside ASCII": 'Content-Disposition: form-data; name="file"; filename="kontakte ä.csv"',
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
async def test_a_file_is_taken_however_its_part_is_headed(start_service: StartService, head: str) -> None:
    async with connect_provider(start_service) as (service, sandbox):
        answer = await service.post("/v1/batch-call", content=write_form(head), headers={"content-type": FORM})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["data"]["name"], answer.json()["data"]["total_recipients"]) == ("März", 2)
        assert count_uploads(sandbox) == (1, 0)


@pytest.mark.parametrize(
    "content_type",
    ["Multipart/Form-Data; boundary=b", "MULTIPART/FORM-DATA;boundary=b", 'multipart/form-data ; boundary="b"',
     "multipart/form-data; charset=UTF-8; Boundary=b"],
)  # fmt: skip
async def test_a_form_is_known_by_its_media_type_in_any_case(start_service: StartService, content_type: str) -> None:
    async with connect_provider(start_service) as (service, _):
        body = write_form(HEADS["a plain name"])
        answer = await service.post("/v1/batch-call", content=body, headers={"content-type": content_type})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("more", [{}, {"expect": "100-continue"}])
async def test_a_form_may_come_in_chunks_of_any_size(start_service: StartService, more: dict[str, str]) -> None:
    body = write_form(HEADS["a plain name"])

    async def send(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async with connect_provider(start_service) as (service, _):
        for size in (1, 7, 100):
            headers = {"content-type": FORM, "idempotency-key": "march", **more}
            answer = await service.post("/v1/batch-call", content=send(size), headers=headers)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, identity"])
async def test_a_compressed_body_is_refused_in_words(start_service: StartService, encoding: str) -> None:
    body = gzip.compress(write_form(HEADS["a plain name"]))
    headers = {"content-type": FORM, "content-encoding": encoding}
    async with connect_provider(start_service) as (service, sandbox):
        for answer in (
            await service.post("/v1/batch-call", content=body, headers=headers),
            await service.put("/v1/batch-calls/1/recipients", content=body, headers=headers),
        ):
            message = answer.json()["error"]["message"]
            assert (answer.status_code, message.startswith("Content-Encoding: the body is compressed")) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_a_field_that_is_cut_off_behind_the_file_calls_nobody(start_service: StartService) -> None:
    body = write_form(HEADS["a plain name"]).removesuffix(b"--b--\r\n")
    body += b'--b\r\nContent-Disposition: form-data; name="dry_run"\r\n\r\ntrue'
    async with connect_provider(start_service) as (service, sandbox):
        for end in range(len(body) - 60, len(body)):
            answer = await service.post("/v1/batch-call", content=body[:end], headers={"content-type": FORM})
            assert (answer.status_code, "cut off" in answer.json()["error"]["message"]) == (400, True)
        assert count_uploads(sandbox) == (0, 0)


async def test_a_form_that_is_cut_off_or_has_two_files_is_refused(start_service: StartService) -> None:
    body = write_form(HEADS["a plain name"])
    async with connect_provider(start_service) as (service, sandbox):
        for content in (body[:-40], body[: len(body) // 2], body.replace(b"--b--", b"") + body):
            answer = await service.post("/v1/batch-call", content=content, headers={"content-type": FORM})
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request"), content
        assert count_uploads(sandbox) == (0, 0)
