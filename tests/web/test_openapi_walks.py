"""A client that uses the ids of one answer in the next call, wherever Schemathesis infers a link, is answered as
documented."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from tests.conftest import API_KEY
from tests.web.live_service import Living, live

KEY = {"Authorization": f"Bearer {API_KEY}"}
RUNS = settings(
    max_examples=5,
    stateful_step_count=12,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MIN_WALKS, MAX_WALKS = 4, 40
LINKS = 15
# A replay or an erasure may remove what existed before. See also test_openapi_conformance.
IGNORED: list[Any] = [
    checks.positive_data_acceptance, not_a_server_error, checks.ensure_resource_availability, checks.use_after_free,
]  # fmt: skip
load_all_checks()


@pytest.fixture
def living(database_url: str) -> Iterator[Living]:
    with live(database_url) as living:
        yield living


def test_a_client_that_follows_links_is_answered_as_documented(living: Living) -> None:
    document = schemathesis.openapi.from_url(f"{living.base_url}/openapi.json")
    document.config.generation.with_security_parameters = False
    document.config.generation.update(modes=[GenerationMode.POSITIVE])  # invalid requests: test_openapi_conformance
    machine = document.exclude(tag="Webhooks").as_state_machine()
    followed: set[str] = set()
    failures: list[Exception] = []

    class Client(machine):  # type: ignore[valid-type, misc]
        """Sends the key with each call, and notes the links that it follows."""

        def step(self, input: Any) -> Any:  # noqa: A002 the base's name
            if input.transition is not None and input.is_applied:
                followed.add(input.transition.id)
            return super().step(input)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": KEY}

        def validate_response(self, response: Any, case: Any, additional_checks: Any = (), **kwargs: Any) -> None:
            try:
                case.validate_response(response, excluded_checks=IGNORED, transport_kwargs={"headers": KEY})
                assert response.status_code < 500 or "retry-after" in response.headers, response.text
            except Exception as failure:
                failures.append(failure)  # it may not recur, since the walks change the data
                raise

    # Most steps of a walk follow no link, and a walk ends early where the same choices lead elsewhere in the changed
    # data. How many links a fixed number of walks follows is luck, so they continue until there are enough.
    for number in range(MAX_WALKS):
        with suppress(FlakyStrategyDefinition):
            seed(number)(Client).run(settings=RUNS)
        if failures or (number + 1 >= MIN_WALKS and len(followed) >= LINKS):
            break
    assert failures == []
    assert len(followed) >= LINKS
