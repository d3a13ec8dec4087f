"""The list of people who must not be called: searched and changed by phone, and without any phone in it."""

import httpx
import pytest

from service.store.database import Database
from tests.guarantees.whole_database import find_everywhere
from tests.suppressions.listing import list_suppressions, suppress

RAHUL, ANITA = "+919898112233", "+919812345678"


async def remove(service: httpx.AsyncClient, phone: str, reason: str = "asked again") -> httpx.Response:
    return await service.delete("/v1/suppressions", params={"phone": phone, "reason": reason})


async def test_a_suppressed_person_is_listed_with_the_reason_and_without_the_phone(
    service: httpx.AsyncClient, database: Database
) -> None:
    assert await suppress(service, RAHUL, ANITA) == {"people": 2, "known": 0, "waiting_rows": 0}
    rows = await list_suppressions(service)
    assert [(row["reason"], row["source"], row["agent_id"]) for row in rows] == [("asked by letter", "crm", None)] * 2
    assert len({row["person"] for row in rows}) == 2
    assert await find_everywhere(database, RAHUL[1:], ANITA[1:]) == []


async def test_the_same_person_in_another_spelling_is_suppressed_once(service: httpx.AsyncClient) -> None:
    await suppress(service, RAHUL)
    assert await suppress(service, "0091 98981-12233", "tel:+91-9898112233", reason="again") == {
        "people": 0, "known": 1, "waiting_rows": 0,
    }  # fmt: skip
    (row,) = await list_suppressions(service)
    assert row["reason"] == "asked by letter"


async def test_a_person_is_found_by_phone(service: httpx.AsyncClient) -> None:
    await suppress(service, RAHUL)
    await suppress(service, ANITA, reason="wrong number")
    (row,) = await list_suppressions(service, phone="0091 98123 45678")
    assert row["reason"] == "wrong number"
    assert await list_suppressions(service, phone="+919800000000") == []
    unencoded = await service.get(f"/v1/suppressions?phone={ANITA}")  # the + arrives as a blank
    assert unencoded.json()["data"] == [row]


async def test_the_list_is_paged_with_the_latest_first(service: httpx.AsyncClient) -> None:
    phones = [f"+9198000000{number:02}" for number in range(7)]
    for phone in phones:
        await suppress(service, phone, reason=phone[-2:])
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await service.get("/v1/suppressions", params={"limit": "3", **after})).json()
        seen += [row["reason"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": str(page["next"])}
    assert seen == [phone[-2:] for phone in reversed(phones)]


async def test_a_removed_person_is_not_on_the_list_and_can_be_suppressed_again(service: httpx.AsyncClient) -> None:
    await suppress(service, RAHUL)
    (row,) = await list_suppressions(service)
    answer = await remove(service, RAHUL)
    assert (answer.status_code, answer.json()["data"]["person"]) == (200, row["person"])
    assert await list_suppressions(service) == await list_suppressions(service, phone=RAHUL) == []
    assert (await remove(service, RAHUL)).status_code == 404
    assert (await suppress(service, RAHUL, reason="changed their mind"))["people"] == 1
    (again,) = await list_suppressions(service)
    assert (again["reason"], again["person"]) == ("changed their mind", row["person"])


async def test_the_audit_log_says_who_was_suppressed_and_removed_by_whom_and_why(service: httpx.AsyncClient) -> None:
    await suppress(service, RAHUL)
    await suppress(service, RAHUL, ANITA, "+919800000001", reason="campaign over")
    await remove(service, RAHUL, "asked again")
    lines = (await service.get("/v1/audit")).json()["data"]
    found = [line for line in reversed(lines) if line["action"] == "suppression"]
    person = found[0]["subject"]
    assert person.startswith("person ")
    assert [(line["subject"], line["outcome"], line["details"].get("reason")) for line in found] == [
        (person, "suppressed", "asked by letter"),
        ("people", "suppressed", "campaign over"),
        (person, "lifted", "asked again"),
    ]
    assert found[1]["details"]["people"] == 2
    assert all(line["actor"] == "setting" for line in found)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"phones": [RAHUL, "12", ANITA, "x"], "reason": "r"}, "phones[1]: "),
        ({"phones": ["9898112233"], "reason": "r"}, "phones[0]: "),
        ({"phones": [], "reason": "r"}, "phones"),
        ({"phones": [RAHUL]}, "reason"),
        ({"phones": [RAHUL], "reason": "  "}, "reason: takes"),
        ({"phones": [RAHUL], "reason": "r", "source": "outcome"}, "source: takes"),
        ({"phones": [RAHUL], "reason": "r", "source": "The CRM"}, "source: takes"),
        ({"phones": [RAHUL], "reason": "r", "region": "India"}, "region: takes"),
    ],
)
async def test_a_list_with_an_error_suppresses_nobody(
    service: httpx.AsyncClient, body: dict[str, object], message: str
) -> None:
    answer = await service.post("/v1/suppressions", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert RAHUL[3:] not in answer.text
    assert await list_suppressions(service) == []


async def test_national_phones_are_read_with_the_region(service: httpx.AsyncClient) -> None:
    answer = await service.post("/v1/suppressions", json={"phones": ["98981 12233"], "reason": "r", "region": "in"})
    assert answer.json()["data"]["people"] == 1
    assert len(await list_suppressions(service, phone=RAHUL)) == 1


@pytest.mark.parametrize(
    "content",
    [
        f"name,customer_phone\nRahul,{RAHUL}\nAnita,{ANITA}\nRahul again,{RAHUL}\n",
        f"{RAHUL}\n\n0091 98123 45678\r\n{RAHUL}\n",
    ],
)
async def test_a_file_of_phones_is_suppressed_whole(service: httpx.AsyncClient, content: str) -> None:
    answer = await service.post(
        "/v1/suppressions", params={"reason": "register"}, content=content, headers={"content-type": "text/csv"}
    )
    assert answer.json()["data"] == {"people": 2, "known": 0, "waiting_rows": 0}
    assert len(await list_suppressions(service, phone=RAHUL)) == 1


async def test_a_file_with_an_error_names_its_line_and_suppresses_nobody(service: httpx.AsyncClient) -> None:
    for content in (f"customer_phone\n{RAHUL}\n12\n", f"\n{RAHUL}\n12\n"):
        answer = await service.post("/v1/suppressions", params={"reason": "r"}, content=content)
        assert answer.status_code == 400
        assert "line 3" in answer.json()["error"]["message"]
    missing = await service.post("/v1/suppressions", content=RAHUL)
    assert (missing.status_code, "reason" in missing.text) == (400, True)
    assert await list_suppressions(service) == []


async def test_the_fields_of_a_form_are_read_as_those_of_the_query(service: httpx.AsyncClient) -> None:
    files = {"file": ("people.csv", "Mobile,Phone\n98981 12233,1\n", "text/csv")}
    fields = {"reason": "register", "source": "crm", "region": "in", "phone_column": "Mobile"}
    for form, query in ((fields, {}), ({}, fields)):
        answer = await service.post("/v1/suppressions", data=form, params=query, files=files)
        assert answer.status_code == 200, answer.text
        (row,) = await list_suppressions(service, phone=RAHUL)
        assert (row["reason"], row["source"]) == ("register", "crm")
        await remove(service, RAHUL)


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("Region", "region"), ("country", "region"), ("regions", "region"), ("countrycode", "region"),
        ("phoneColumn", "phone_column"), ("phone", "phone_column"), ("column", "phone_column"), ("reasons", "reason"),
        ("sources", "source"),
    ],
)  # fmt: skip
async def test_a_slip_in_a_field_suppresses_nobody(service: httpx.AsyncClient, field: str, meant: str) -> None:
    file = {"file": ("people.csv", RAHUL, "text/csv")}
    answer = await service.post("/v1/suppressions", data={"reason": "r", field: "IN"}, files=file)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"{field}: is not a field of this call; did you mean {meant}?"
    for answer in (
        await service.post("/v1/suppressions", params={"reason": "r", field: "IN"}, content=RAHUL),
        await service.post("/v1/suppressions", params={field: "IN"}, json={"phones": [RAHUL], "reason": "r"}),
    ):
        assert (answer.status_code, answer.json()["error"]["message"].startswith(f"{field}: ")) == (400, True)
    assert await list_suppressions(service) == []


async def test_a_field_with_no_value_or_two_suppresses_nobody(service: httpx.AsyncClient) -> None:
    file = {"file": ("people.csv", RAHUL, "text/csv")}
    for form, query in (({"region": ""}, {}), ({"region": "IN"}, {"region": "US"}), ({"reason": "s"}, {})):
        answer = await service.post(
            "/v1/suppressions", data=form, params={"reason": "r"} | query, files=file
        )  # fmt: skip
        assert answer.status_code == 400
    assert await list_suppressions(service) == []


async def test_national_phones_in_a_list_need_a_region(service: httpx.AsyncClient) -> None:
    answer = await service.post("/v1/suppressions", params={"reason": "r"}, content="98981 12233\n98981 12234\n")
    message = answer.json()["error"]["message"]
    assert (answer.status_code, message.startswith("file: line 1 "), "send region=IN" in message) == (400, True, True)
    assert await list_suppressions(service) == []


async def test_thousands_of_phones_fit_into_one_request(service: httpx.AsyncClient) -> None:
    phones = [f"+91980{number:07}" for number in range(5000)]
    assert (await suppress(service, *phones))["people"] == 5000
    assert (await suppress(service, *phones))["known"] == 5000
    more = await service.post("/v1/suppressions", json={"phones": [*phones, RAHUL], "reason": "r"})
    assert more.status_code == 400


@pytest.mark.parametrize("phone", ["+91 98765-43299/11", "+919876500001, +919876500002", "+919876543210 ext 5"])
async def test_what_is_not_one_number_suppresses_nobody(service: httpx.AsyncClient, phone: str) -> None:
    answer = await service.post("/v1/suppressions", json={"phones": [phone], "reason": "asked"})
    assert answer.status_code == 400
    assert (await service.get("/v1/suppressions")).json()["data"] == []
    decimal = await service.post("/v1/suppressions", json={"phones": ["+919876543210.0"], "reason": "asked"})
    assert decimal.status_code == 200
    found = await service.get("/v1/suppressions", params={"phone": "+919876543210"})
    assert len(found.json()["data"]) == 1
