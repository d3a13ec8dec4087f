"""kill -9 at every step of an upload: whatever the caller does next, each recipient is dialled exactly once."""

import asyncio
import signal
from collections import Counter
from typing import Any

import asyncpg
import httpx
import pytest

from service.sandbox import RunningSandbox
from tests.eventually import eventually
from tests.guarantees.stopped_uploads import BLOCK, UNBLOCK, WEEK_SECONDS, provider, wait_for_block, wait_for_step
from tests.processes import Serving, serve
from tests.provider import CONTACTS, KEY, find_free_port, upload


async def list_uploads(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    uploads: list[dict[str, Any]] = (await client.get("/v1/uploads")).json()["data"]
    return uploads


async def wait_for_acceptance(sandbox: RunningSandbox) -> None:
    await eventually(lambda: sandbox.sandbox.records.batches)


async def kill(serving: Serving, trying: asyncio.Task[httpx.Response]) -> None:
    serving.process.kill()
    await serving.process.wait()
    with pytest.raises(httpx.HTTPError):
        await trying


async def restart_and_count_dials(
    connection: asyncpg.Connection, sandbox: RunningSandbox, settings: dict[str, str]
) -> list[str]:
    """Restarts the service after the lease has expired and repeats the upload; returns the states in between."""
    await connection.execute("UPDATE batches SET leased_until = now() - interval '1 second'")
    states: list[str] = []
    async with serve(**settings) as again:
        uploads = await eventually(
            lambda: list_uploads(again.client),
            lambda uploads: all(
                row["state"] not in {"preparing", "prepared", "uploading"}
                and (row["state"] != "unknown" or "list holds" in row["detail"])
                for row in uploads
            ),
        )
        states += [row["state"] for row in uploads]
        answer = await upload(again.client, key="one-campaign")
        if answer.status_code == 504:  # the provider never accepted it, which only a person can know
            (row,) = uploads
            resolved = await again.client.post(f"/v1/uploads/{row['upload_id']}/resolve", json={"not_sent": True})
            assert resolved.json()["data"]["state"] == "failed"
            states.append("declared not sent")
            answer = await upload(again.client, key="one-campaign")
        assert answer.status_code == 200, answer.text
        batch_id = answer.json()["data"]["id"]
        assert (await upload(again.client, key="one-campaign")).json()["data"]["id"] == batch_id
        assert (await upload(again.client)).status_code == 409
        await assert_dialled_once(sandbox)
        shown = (await again.client.get(f"/v1/batch-calls/{batch_id}/outcomes")).json()["data"]
        assert shown["recipients"]["processed"] == 2
        assert await again.end(signal.SIGTERM) == 0
    return states


async def assert_dialled_once(sandbox: RunningSandbox) -> None:
    """Plays all calls, which start only now that a service can take the webhooks; then checks whom they dialled."""
    await sandbox.sandbox.advance(WEEK_SECONDS)
    for batch_id in sandbox.sandbox.records.batches:
        await sandbox.sandbox.wait_until_done(batch_id)
    dials = Counter(
        (recipient["phone"], attempt["number"])
        for taken in sandbox.sandbox.records.batches
        for recipient in sandbox.sandbox.recipients(taken)
        for attempt in recipient["attempts"]
    )
    assert set(dials.values()) == {1}
    assert {phone for phone, _ in dials} == {"+919876543210", "+919812345678"}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("preparing", []),
        ("prepared", ["failed"]),
        ("uploading", ["failed"]),
        ("uploaded", ["uploaded"]),  # the provider accepted it: found in its list
    ],
)
async def test_killed_before_a_step_was_committed(database_url: str, state: str, expected: list[str]) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url,
            "OUTCOMES_PORT": str(port),
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        connection = await asyncpg.connect(database_url)
        async with serve(**settings) as serving:
            await connection.execute(BLOCK.format(state=state))
            await connection.execute("SELECT pg_advisory_lock(42)")
            trying = asyncio.create_task(upload(serving.client, key="one-campaign"))
            blocked = asyncio.create_task(wait_for_block(connection))
            await wait_for_step(blocked, trying)
            await kill(serving, trying)
        await connection.execute("SELECT pg_terminate_backend($1)", blocked.result())
        await connection.execute("SELECT pg_advisory_unlock(42)")
        await connection.execute(UNBLOCK)
        states = await restart_and_count_dials(connection, sandbox, settings)
        await connection.close()
    assert states == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("prepared", "held"),
        ("uploading", "held"),
        ("uploaded", "uploaded"),  # the provider accepted it: found in its list
    ],
)
async def test_a_promotion_killed_before_a_step_was_committed(database_url: str, state: str, expected: str) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url,
            "OUTCOMES_PORT": str(port),
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        connection = await asyncpg.connect(database_url)
        async with serve(**settings) as serving:
            test = (await upload(serving.client, test_recipients="1")).json()["data"]["id"]
            await connection.execute(BLOCK.format(state=state))
            await connection.execute("SELECT pg_advisory_lock(42)")
            trying = asyncio.create_task(serving.client.post(f"/v1/batch-calls/{test}/promote"))
            blocked = asyncio.create_task(wait_for_block(connection))
            await wait_for_step(blocked, trying)
            await kill(serving, trying)
        await connection.execute("SELECT pg_terminate_backend($1)", blocked.result())
        await connection.execute("SELECT pg_advisory_unlock(42)")
        await connection.execute(UNBLOCK)
        await connection.execute("UPDATE batches SET leased_until = now() - interval '1 second'")
        async with serve(**settings) as again:
            uploads = await eventually(
                lambda: list_uploads(again.client),
                lambda uploads: all(row["state"] in {"held", "uploaded"} for row in uploads),
            )
            states = {row["state"] for row in uploads}
            assert expected in states
            assert ("held" in states) == (expected == "held")
            answer = await again.client.post(f"/v1/batch-calls/{test}/promote")
            assert answer.status_code == (200 if expected == "held" else 409)
            await assert_dialled_once(sandbox)
        await connection.close()


async def test_killed_after_the_provider_accepted_it_and_before_the_answer(database_url: str) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url,
            "OUTCOMES_PORT": str(port),
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        connection = await asyncpg.connect(database_url)
        async with serve(**settings) as serving:
            sandbox.sandbox.faults.next_upload = "hang"
            trying = asyncio.create_task(upload(serving.client, key="one-campaign"))
            await wait_for_step(asyncio.create_task(wait_for_acceptance(sandbox)), trying)
            await kill(serving, trying)
        sandbox.sandbox.faults.release()
        states = await restart_and_count_dials(connection, sandbox, settings)
        await connection.close()
    assert states == ["uploaded"]


async def test_killed_while_sending_to_a_provider_that_never_accepted_it(database_url: str) -> None:
    port = find_free_port()
    received = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            if data.startswith(b"POST "):  # other requests are the service's own lookups
                received.set()
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    nowhere = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with provider(port) as sandbox:
        settings = {"OUTCOMES_DATABASE_URL": database_url, "OUTCOMES_PORT": str(port), "FORMANT_API_KEY": KEY}
        connection = await asyncpg.connect(database_url)
        async with serve(**settings, FORMANT_BASE_URL=nowhere) as serving:
            trying = asyncio.create_task(upload(serving.client, key="one-campaign"))
            await wait_for_step(asyncio.create_task(received.wait()), trying)
            await kill(serving, trying)
        silent.close()
        settings["FORMANT_BASE_URL"] = sandbox.base_url
        states = await restart_and_count_dials(connection, sandbox, settings)
        await connection.close()
    assert states == ["unknown", "declared not sent"]


async def test_killed_when_only_the_answer_was_missing(database_url: str) -> None:
    port = find_free_port()
    async with provider(port) as sandbox:
        settings = {
            "OUTCOMES_DATABASE_URL": database_url,
            "OUTCOMES_PORT": str(port),
            "FORMANT_BASE_URL": sandbox.base_url,
            "FORMANT_API_KEY": KEY,
        }
        connection = await asyncpg.connect(database_url)
        async with serve(**settings) as serving:
            assert (await upload(serving.client, key="one-campaign")).status_code == 200
            serving.process.kill()
            await serving.process.wait()
        assert await restart_and_count_dials(connection, sandbox, settings) == ["uploaded"]
        await connection.close()
    assert CONTACTS.count("+") == 2
