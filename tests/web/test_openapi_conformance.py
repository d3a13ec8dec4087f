"""The service does what its OpenAPI document says, whatever it is sent: schemathesis makes requests from the document,
and holds the answers against it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

from service.formant.signature import SIGNATURE_HEADER, sign
from service.sandbox import sample_contacts
from tests.conftest import API_KEY, SECRET
from tests.web.live_service import Living, live

KEY = {"Authorization": f"Bearer {API_KEY}"}
EXAMPLES = settings(
    max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
# Whether a valid request is accepted depends on what there is: an id may be unknown, a file uploaded before.
# And a service may be busy, as long as it says until when: see ``validate``.
IGNORED: list[Any] = [checks.positive_data_acceptance, not_a_server_error]

Case = schemathesis.Case[Any]
files = st.integers(0, 50).map(lambda seed: sample_contacts(1 + seed % 5, seed=seed).encode())
schemathesis.openapi.media_type("text/csv", files)
load_all_checks()


@pytest.fixture
def living(database_url: str) -> Iterator[Living]:
    with live(database_url) as living:
        yield living


@pytest.fixture
def document(living: Living) -> BaseSchema:
    document = schemathesis.openapi.from_url(f"{living.base_url}/openapi.json")
    document.config.generation.with_security_parameters = (
        False  # the key is always sent; one check leaves it out itself
    )
    return document


def aim(case: Case, living: Living) -> None:
    """Has every other valid request name something that exists."""
    if case.meta is None or case.meta.generation.mode.is_positive:
        for name, value in dict(case.path_parameters or {}).items():
            number = sum(map(ord, str(value)))
            if number % 2 == 0:
                known = living.known[name]
                case.path_parameters[name] = known[number // 2 % len(known)]


def validate(case: Case, **sent: Any) -> None:
    """Sends the request, and holds the answer against the document."""
    answer = case.call(**sent)
    case.validate_response(answer, excluded_checks=IGNORED, transport_kwargs=sent)
    assert answer.status_code < 500 or "retry-after" in answer.headers, answer.text


class Signer(requests.auth.AuthBase):
    """Signs webhooks as the provider does."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body: Any = request.body or b""
        request.headers[SIGNATURE_HEADER] = sign(body.encode() if isinstance(body, str) else body, SECRET)
        return request


def check_all(document: BaseSchema, subtests: pytest.Subtests, check: Callable[[Case], object]) -> None:
    """Makes cases for each operation of the document, valid and invalid ones, and checks each."""

    def check_case(case: Case) -> None:
        check(case)

    # Its own parametrize() does the same, and does not work with pytest 9.1.
    tests = list(get_all_tests(schema=document, test_func=check_case, settings=EXAMPLES, given_kwargs=None))
    assert tests
    for found in tests:
        assert isinstance(found, Ok), found.err()
        operation, test = found.ok()
        with subtests.test(operation.label):
            test()


def test_every_read_answers_as_documented(living: Living, document: BaseSchema, subtests: pytest.Subtests) -> None:
    def check(case: Case) -> None:
        aim(case, living)
        validate(case, headers=KEY)

    check_all(document.exclude(tag="Webhooks").include(method="GET"), subtests, check)


def test_every_change_answers_as_documented(living: Living, document: BaseSchema, subtests: pytest.Subtests) -> None:
    def check(case: Case) -> None:
        aim(case, living)
        validate(case, headers=KEY)

    check_all(document.exclude(tag="Webhooks").exclude(method="GET"), subtests, check)


def test_every_webhook_is_answered_as_documented(
    living: Living, document: BaseSchema, subtests: pytest.Subtests
) -> None:
    def check(case: Case) -> None:
        aim(case, living)
        is_signed = case.meta is None or case.meta.generation.mode.is_positive
        validate(case, auth=Signer() if is_signed else None)

    check_all(document.include(tag="Webhooks"), subtests, check)
