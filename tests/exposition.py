"""Reads figures from the service's ``/metrics``."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


async def read_metric(client: httpx.AsyncClient, name: str, /, **labels: str) -> float:
    """The present value of one series, 0 when it is not there yet."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0
