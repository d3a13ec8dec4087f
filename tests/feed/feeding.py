"""Reads the feed over HTTP as a consumer does."""

from typing import Any

import httpx

KEYS = [
    "position", "batch_id", "recipient", "phone", "parameters", "state", "status", "is_final", "attempts",
    "duration_seconds", "results", "failure_reason", "next_retry_at", "last_attempt_at", "conversation_id", "source",
    "version", "goal_met", "callbacks",
]  # fmt: skip


async def read_page(service: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    """One page, of the shape that readers rely on."""
    answer = await service.get("/v1/feed", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    assert list(page) == ["data", "next", "has_more"]
    assert all(list(entry) == KEYS for entry in page["data"])
    return page


async def read_on(service: httpx.AsyncClient, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """All entries after a position, page by page."""
    entries: list[dict[str, Any]] = []
    while True:
        page = await read_page(service, after=after, limit=limit)
        entries += page["data"]
        if not page["has_more"]:
            return entries
        after = page["next"]
