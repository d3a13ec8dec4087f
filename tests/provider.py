"""The provider's sandbox and the service, connected to each other."""

import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from service.app import DEFAULT_BACKLOG_LIMITS
from service.sandbox import RunningSandbox, SandboxOptions, SteppedClock, WebhookTarget, serve_sandbox
from tests.conftest import SECRET, StartService

START = 1_773_657_000.0  # 2026-03-16T10:30:00Z
KEY = "sandbox-key"
FIRST_PORT, PORTS = 20_000, 1_500
_ports = itertools.count()
CONTACTS = """\
customer_phone,customer_name,loan_id,due_amount
+919876543210,Rahul,LN-12345,29000
+919812345678,Anita,LN-67890,15000
"""


@asynccontextmanager
async def connect_provider(
    start_service: StartService,
    *,
    plays: bool = False,
    start: float = START,
    options: dict[str, Any] | None = None,
    **settings: str,
) -> AsyncIterator[tuple[httpx.AsyncClient, RunningSandbox]]:
    """Runs the service, and the sandbox that it uploads to and gets its webhooks from.

    ``plays``: the sandbox makes calls at once without waiting; otherwise its time stands still at ``start``.
    """
    port = find_free_port()
    given = {"FORMANT_BASE_URL": f"http://127.0.0.1:{port}", "FORMANT_API_KEY": KEY, **settings}
    async with start_service(DEFAULT_BACKLOG_LIMITS, **given) as service:
        target = WebhookTarget(url=f"{service.base_url}/webhooks/formant", secret=SECRET)
        configured = {"seed": 1, "rate_limit": 10_000, "first_batch_id": 456, "targets": (target,), **(options or {})}
        clock = SteppedClock(start, allowance=None if plays else 0)
        async with serve_sandbox(SandboxOptions(**configured), port=port, clock=clock) as sandbox:
            yield service, sandbox


def find_free_port() -> int:
    """A port that stays unused: below those that systems hand out, and different for each test worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = FIRST_PORT + worker * PORTS + number % PORTS
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


async def upload(
    service: httpx.AsyncClient,
    content: str | bytes = CONTACTS,
    *,
    file_name: str = "contacts.csv",
    key: str | None = None,
    **form: str,
) -> httpx.Response:
    """Uploads a CSV to the service as the provider documents it; ``key`` is the Idempotency-Key."""
    data = {"agent_id": "123", "name": "March Follow Ups", **form}
    headers = {} if key is None else {"idempotency-key": key}
    files = {"file": (file_name, content, "text/csv")}
    return await service.post("/v1/batch-call", data=data, files=files, headers=headers)


def count_uploads(sandbox: RunningSandbox) -> tuple[int, int]:
    """The number of uploads that the provider accepted, and that it refused."""
    journal = sandbox.sandbox.journal
    return sum(journal.uploads.values()), journal.uploads_refused
