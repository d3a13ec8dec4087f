"""Reads the metrics and the alarms of a running service."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families


async def read_metric(client: httpx.AsyncClient, name: str, /, **labels: str) -> float:
    """The current value of one series; 0 if it does not exist yet."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


async def read_alarms(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """The active alarms by name."""
    answer = await client.get("/v1/alarms")
    assert answer.status_code == 200
    return {alarm["name"]: alarm for alarm in answer.json()["data"]}
