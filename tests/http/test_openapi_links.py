"""The document's links: from each answer to the calls that take the ids in it. Every one leads somewhere, and a client
that follows them in any order, with all that it may send besides, is answered as documented."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from tests.conftest import API_KEY
from tests.factories import encode, make_payload
from tests.http.fuzzing import signed_headers
from tests.http.living import Living, live
from tests.http.test_openapi import list_operations

KEY = {"Authorization": f"Bearer {API_KEY}"}
IDS = {"batch_id", "recipient", "upload_id", "event_id", "quarantine_id", "erasure_id", "name"}
RUNS = settings(
    max_examples=5,
    stateful_step_count=12,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# A replay changes what is there, and an erased person is not found again: what existed may be gone. See also
# test_openapi_conformance.
IGNORED: list[Any] = [
    checks.positive_data_acceptance, not_a_server_error, checks.ensure_resource_availability, checks.use_after_free,
]  # fmt: skip
BODIES: dict[str, Any] = {
    "/v1/erasures": {"phone": "+919812345670", "dry_run": False},
    "/v1/feed/consumers/{name}": {"position": 3},
    "/v1/uploads/{upload_id}/resolve": {"batch_id": 456},
}
load_all_checks()


@pytest.fixture
def living(database_url: str) -> Iterator[Living]:
    with live(database_url) as living:
        yield living


@pytest.fixture
def document(living: Living) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{living.base_url}/openapi.json").json()
    return document


def list_links(document: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Method and path of the call, the status of its answer, and the link."""
    return [
        (method, path, status, link)
        for method, path, operation in list_operations(document)
        for status, answer in operation["responses"].items()
        for link in answer.get("links", {}).values()
    ]


def test_every_id_that_a_call_takes_is_found_in_some_answer(document: dict[str, Any]) -> None:
    links = list_links(document)
    names = {operation["operationId"]: path for _, path, operation in list_operations(document)}
    for *_, link in links:
        assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", names[link["operationId"]]))
    led_to = {link["operationId"] for *_, link in links}
    for _, path, operation in list_operations(document):
        if (taken := set(re.findall(r"{(\w+)}", path))) and taken <= IDS:
            assert operation["operationId"] in led_to, path


def test_every_link_leads_from_what_there_is_to_what_there_is(
    living: Living, document: dict[str, Any], subtests: pytest.Subtests
) -> None:
    names = {operation["operationId"]: (method, path) for method, path, operation in list_operations(document)}
    followed = set()
    with httpx.Client(base_url=living.base_url, headers=KEY, timeout=30.0) as client:
        for method, path, status, link in list_links(document):
            if method != "get" and path not in BODIES and not path.startswith("/webhooks"):
                continue
            target_method, target = names[link["operationId"]]
            with subtests.test(f"{method} {path} → {target_method} {target}"):
                taken = find_taken(client, living, method, path, int(status), link["parameters"])
                for name, value in taken.items():
                    target = target.replace(f"{{{name}}}", quote(str(value), safe=""))
                if target_method == "get" and taken:
                    answer = client.get(target)
                    assert answer.status_code == 200, (target, answer.text)
                    followed.add((path, link["operationId"]))
    assert len(followed) > 30


def find_taken(
    client: httpx.Client, living: Living, method: str, path: str, status: int, expressions: dict[str, str]
) -> dict[str, object]:
    """What a link takes from the first of the calls of what there is whose answer has all of it; empty where no answer
    was of that status."""
    is_answered = False
    names = re.findall(r"{(\w+)}", path)
    for values in product(*(living.known[name] for name in names)):
        asked = dict(zip(names, values, strict=True))
        answer = call(client, method, path, asked)
        if answer.status_code == status:
            is_answered = True
            taken = {name: evaluate(expression, answer, asked) for name, expression in expressions.items()}
            if None not in taken.values():
                return taken
    assert not is_answered, f"no answer to {method} {path} has {expressions}"
    return {}


def call(client: httpx.Client, method: str, path: str, asked: dict[str, str]) -> httpx.Response:
    """The answer to a call, with these values in its path."""
    body = BODIES.get(path) if method != "get" else None
    for name, value in asked.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    if path.startswith("/webhooks"):
        content = encode(make_payload(event_id="linked", agent_id=9))
        return client.post(path, content=content, headers=signed_headers(content))
    return client.request(method, path, json=body)


def evaluate(expression: str, answer: httpx.Response, asked: dict[str, str]) -> object:
    """A runtime expression of OpenAPI, as far as the document has them."""
    if expression.startswith("$request.path."):
        return asked[expression.removeprefix("$request.path.")]
    source, _, pointer = expression.partition("#/")
    value: Any = (
        answer.json() if source == "$response.body" else httpx.Response(200, content=answer.request.content).json()
    )
    for step in pointer.split("/"):
        value = (value or [None])[int(step)] if isinstance(value, list) else (value or {step: None})[step]
    return value


def test_whoever_follows_the_links_is_answered_as_documented(living: Living) -> None:
    document = schemathesis.openapi.from_url(f"{living.base_url}/openapi.json")
    document.config.generation.with_security_parameters = False
    document.config.generation.update(modes=[GenerationMode.POSITIVE])  # invalid requests: test_openapi_conformance
    document.config.phases.stateful.inference.algorithms = []  # no links but ours
    machine = document.exclude(tag="Webhooks").as_state_machine()
    walked: set[str] = set()
    failures: list[Exception] = []

    class Client(machine):  # type: ignore[valid-type, misc]
        """Sends the key with each call, and counts the links that it followed."""

        def step(self, input: Any) -> Any:  # noqa: A002 the base's name
            if input.transition is not None and input.is_applied:
                walked.add(input.transition.id)
            return super().step(input)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": KEY}

        def validate_response(self, response: Any, case: Any, additional_checks: Any = (), **kwargs: Any) -> None:
            try:
                case.validate_response(response, excluded_checks=IGNORED, transport_kwargs={"headers": KEY})
                assert response.status_code < 500 or "retry-after" in response.headers, response.text
            except Exception as failure:
                failures.append(failure)  # it may not come again, since the walks change what there is
                raise

    for number in range(4):
        # For the same reason choices that lead somewhere once may not do so again: then the walk ends there.
        with suppress(FlakyStrategyDefinition):
            seed(number)(Client).run(settings=RUNS)
    assert failures == []
    assert len(walked) >= 15
