"""Uploads that begin with a test batch."""

import httpx

from service.sandbox import RunningSandbox, sample_contacts
from tests.provider import upload

FILE = sample_contacts(50, seed=3)


def phones_of(sandbox: RunningSandbox, batch_id: int) -> list[str]:
    contacts = sandbox.sandbox.find_batch(batch_id).contacts
    return [contacts.read(row)[0] for row in range(len(contacts))]


async def upload_test(service: httpx.AsyncClient, recipients: int = 10, **form: str) -> httpx.Response:
    return await upload(service, FILE, test_recipients=str(recipients), **form)
