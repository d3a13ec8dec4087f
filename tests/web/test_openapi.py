"""The OpenAPI document: valid, complete, and true of what is there; its page needs nothing from anywhere else."""

import json
import re
from collections.abc import AsyncIterator
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import Route

from service.app import open_app
from service.errors import InvalidRequestError
from service.front import Front
from service.settings import read_settings
from service.web.operations import Operation
from service.web.parameters import Parameter
from tests.conftest import API_KEY, SECRET
from tests.web.live_service import live

ASKED_OTHERWISE = [
    ("/v1/batch-calls/{batch_id}/outcomes", {"by": "results.intent"}),
    *[("/v1/outcomes", {"group_by": group}) for group in ("agent", "day", "name", "campaign")],
    ("/v1/feed", {"consumer": "crm"}),
]


def operations_of(app: Front) -> list[Operation]:
    operations: list[Operation] = app.routes.state.operations
    return operations


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Front]:
    """The service itself, with its operations."""
    settings = read_settings({"FORMANT_WEBHOOK_SECRET": SECRET, "OUTCOMES_API_KEY": API_KEY})
    async with open_app(settings, database_url) as service:
        assert isinstance(service.app, Front)
        yield service.app


def test_every_file_of_people_is_recorded_in_the_audit_log(app: Front) -> None:
    files = {each.path: each.download for each in operations_of(app) if each.path.endswith((".csv", ".{format}"))}
    assert files.pop("/v1/exports/batches.{format}") is None
    assert len(files) == 8
    assert None not in files.values()


async def read_document(service: httpx.AsyncClient) -> dict[str, Any]:
    answer = await service.get("/openapi.json", headers={"authorization": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document: dict[str, Any] = answer.json()
    return document


def list_operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, each) for path, item in document["paths"].items() for method, each in item.items()]


async def test_the_document_is_valid_openapi_3_1(service: httpx.AsyncClient) -> None:
    document = await read_document(service)
    assert document["openapi"].startswith("3.1.")
    OPENAPI_31_VALIDATOR.validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in document["components"]["schemas"]


async def test_the_document_shows_version_key_and_scopes(service: httpx.AsyncClient) -> None:
    document = await read_document(service)
    assert document["info"]["version"] == "0.1.0"
    assert document["servers"] == [{"url": "/"}], "it holds wherever the service is"
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    scopes = {}
    for method, path, operation in list_operations(document):
        assert bool(operation["security"]) == ("x-required-scope" in operation)
        scopes[method, path] = operation.get("x-required-scope")
    assert scopes["get", "/v1/batch-calls/{batch_id}/outcomes"] == "read"
    assert scopes["post", "/v1/batch-call"] == "upload"
    assert scopes["post", "/v1/quarantine/{quarantine_id}/replay"] == "admin"
    assert scopes["post", "/webhooks/formant"] is scopes["get", "/healthz"] is scopes["get", "/docs"] is None


async def test_every_route_is_declared_and_documented_and_nothing_else_is(app: Front) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        document = await read_document(client)
    documented = {(method.upper(), path) for method, path, _ in list_operations(document)}
    routes = [route for route in app.routes.routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    served = {(method, path) for method, path in served if not path.startswith("/console")}  # pages for people
    received = {("POST", "/webhooks/formant"), ("POST", "/webhooks/formant/{target}")}
    assert documented == served | received
    assert [each.path for each in operations_of(app) if not each.answers] == []


async def test_everything_has_a_description(service: httpx.AsyncClient) -> None:
    document = await read_document(service)
    names = [operation["operationId"] for _, _, operation in list_operations(document)]
    assert len(set(names)) == len(names)
    for method, path, operation in list_operations(document):
        assert operation["summary"], (method, path)
        assert operation["tags"], (method, path)
        assert all(parameter["description"] for parameter in operation.get("parameters", ())), (method, path)
        assert all(answer["description"] for answer in operation["responses"].values()), (method, path)
        in_path = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


async def test_every_declared_parameter_is_read_and_refused_by_its_name(app: Front, subtests: pytest.Subtests) -> None:
    operations = operations_of(app)
    headers = [(each, field) for each in operations for field in each.parameters if field.place == "header"]
    declared = [(each, field) for each in operations for field in each.list_query()] + headers
    wrong = [(*each, text) for each in declared if (text := find_wrong_text(each[1])) is not None]
    assert len(wrong) > 20
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        client.headers["authorization"] = f"Bearer {API_KEY}"
        for operation, parameter, text in wrong:
            with subtests.test(f"{operation.method} {operation.path} {parameter.name}"):
                answer = await ask(client, operation, parameter, text)
                assert answer.status_code == 400, answer.text
                assert answer.json()["error"]["message"].startswith(f"{parameter.name}: takes {parameter.takes}")


def find_wrong_text(parameter: Parameter[Any, Any]) -> str | None:
    """A text that it does not take; None where it takes any, or its handler alone says what it takes."""
    if parameter.name in {"after", "result"}:
        return "?"
    for text in ("?", '""', "x" * (parameter.schema.get("maxLength", 0) + 1)):
        try:
            parameter.parse(text)
        except InvalidRequestError:
            return text
    return None


async def ask(
    client: httpx.AsyncClient, operation: Operation, parameter: Parameter[Any, Any], text: str
) -> httpx.Response:
    """Calls an operation with what a parameter does not take, everything else being as it should be."""
    wrong = {parameter.name: text}
    path = re.sub(r"{\w+}", "1", operation.path.replace("{format}", "csv"))
    form: dict[str, Any] = {}
    if operation.bodies:
        fields = {"agent_id": "1", "name": "April", "test_recipients": "1", "promote_at_success_rate": "50"}
        form["data"] = {name: value for name, value in fields.items() if name not in wrong}
        form["files"] = {"file": ("contacts.csv", "customer_phone\n+919876543210\n", "text/csv")}
    form["headers" if parameter.place == "header" else "params"] = wrong
    return await client.request(operation.method, path, **form)


async def test_a_parameter_that_is_not_declared_is_refused_with_the_one_that_was_meant(
    service: httpx.AsyncClient,
) -> None:
    for path, report in (
        ("/v1/uploads?stat=unknown", "stat: is not a parameter of this call; did you mean state?"),
        ("/v1/uploads?colour=red", "colour: is not a parameter of this call; it takes after, limit, state"),
        ("/v1/alarms?colour=red", "colour: is not a parameter of this call; it takes none"),
        ("/v1/uploads?limit=1&limit=2", "limit: was given 2 times; once is enough"),
    ):
        answer = await service.get(path)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, report)


async def test_the_providers_own_calls_and_the_open_ones_ignore_parameters_that_they_do_not_know(
    service: httpx.AsyncClient, app: Front
) -> None:
    tolerant = {each.path for each in operations_of(app) if each.is_tolerant and each.scope is not None}
    assert tolerant == {
        "/v1/batch-call", "/v1/batch-calls", "/v1/batch-calls/{batch_id}", "/v1/batch-calls/{batch_id}/metrics",
    }  # fmt: skip
    for path in ("/v1/batch-calls", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert (await service.get(f"{path}?colour=red&colour=blue")).status_code == 200


async def test_the_form_of_an_upload_has_a_binary_file_an_example_of_each_field_and_no_twins(
    service: httpx.AsyncClient,
) -> None:
    operation = (await read_document(service))["paths"]["/v1/batch-call"]["post"]
    fields = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert fields.pop("file")["format"] == "binary"
    assert [name for name, schema in fields.items() if not schema.get("examples")] == []
    assert {parameter["name"] for parameter in operation["parameters"]} == {"Idempotency-Key"}


async def test_a_field_that_differs_between_form_and_query_is_refused(service: httpx.AsyncClient) -> None:
    form: dict[str, Any] = {
        "data": {"agent_id": "1", "name": "April", "dry_run": "true", "force": "true"},
        "files": {"file": ("contacts.csv", "customer_phone\n+919876543210\n", "text/csv")},
    }
    answer = await service.post("/v1/batch-call?force=false", **form)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "force: was given twice, with different values"
    assert (await service.post("/v1/batch-call?force=true", **form)).status_code == 200


def test_every_answer_has_its_documented_shape_and_nothing_else(database_url: str) -> None:
    checked = set()
    with live(database_url) as living, httpx.Client(base_url=living.base_url, timeout=30.0) as client:
        client.headers["authorization"] = f"Bearer {API_KEY}"
        document = client.get("/openapi.json").json()
        forbid_more(document["components"]["schemas"])
        for method, path, operation in list_operations(document):
            names = re.findall(r"{(\w+)}", path)
            for values in product(*(living.known[name] for name in names)):
                if method == "get" and path not in {"/", "/openapi.json"}:
                    found = path
                    for name, value in zip(names, values, strict=True):
                        found = found.replace(f"{{{name}}}", quote(value))
                    answer = client.get(found)
                    (shown,) = [operation["responses"][str(answer.status_code)]]
                    kind = answer.headers["content-type"].partition(";")[0]
                    assert kind in shown["content"], (found, kind)
                    if kind == "application/json" and answer.status_code == 200:
                        schema = shown["content"][kind]["schema"] | {"components": document["components"]}
                        jsonschema_rs.validator_for(schema, validate_formats=True).validate(answer.json())
                        checked.add(path)
        for path, query in ASKED_OTHERWISE:
            answer = client.get(path.replace("{batch_id}", "456"), params=query)
            assert answer.status_code == 200, answer.text
            schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema_rs.validator_for(schema | {"components": document["components"]}).validate(answer.json())
    assert len(checked) >= 20


def forbid_more(schema: Any) -> None:
    """Makes every object refuse what it does not name, so that an undocumented key is found."""
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        forbid_more(each)
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)


async def test_the_page_loads_nothing_but_files_of_this_service_and_each_is_there(service: httpx.AsyncClient) -> None:
    page = await service.get("/docs", headers={"authorization": ""})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(named) >= 4
    for path in named:
        assert path.startswith("/"), path
        assert not path.startswith("//"), path
        assert (await service.get(path, headers={"authorization": ""})).status_code == 200, path
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", page.text), "nothing inline"


async def test_the_page_and_its_files_forbid_everything_from_elsewhere(service: httpx.AsyncClient) -> None:
    page = await service.get("/docs")
    for path in ("/docs", *re.findall(r'(?:src|href)="(/docs/[^"]*)"', page.text)):
        answer = await service.get(path)
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert set(" ".join(policy.values()).split()) <= {"'none'", "'self'", "data:"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        is_versioned = "swagger-ui-" in path
        assert ("immutable" in answer.headers["cache-control"]) == is_versioned
        tag = {"if-none-match": answer.headers["etag"]}
        assert (await service.get(path, headers=tag)).status_code == 304


async def test_the_document_is_not_sent_again_to_who_has_it(service: httpx.AsyncClient) -> None:
    answer = await service.get("/openapi.json")
    again = await service.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
    assert (await service.get("/openapi.json", headers={"if-none-match": '"old"'})).status_code == 200


async def test_no_file_but_those_of_the_page_is_served(service: httpx.AsyncClient) -> None:
    for name in ("docs.html", "..%2Fauth.py", "%2e%2e/openapi.py", "swagger-ui-5.35.0", "LICENSE", "start.js%00"):
        assert (await service.get(f"/docs/{name}")).status_code == 404, name
