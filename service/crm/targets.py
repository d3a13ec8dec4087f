"""What every CRM is to the job: something that takes a batch of records and says which of them it took."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from service.crm.errors import RefusedError, SyncError
from service.crm.exchange import Answer, read_message
from service.crm.records import Record

WHO = "The CRM"
SEND_SECONDS = 60.0


@dataclass(frozen=True)
class Reply:
    """What an answer says about a batch: the keys that it confirms, and why it refused others. Of the rest it says
    nothing, and they were not sent."""

    taken: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """A CRM. Its upserts may be repeated."""

    @property
    def batch_size(self) -> int:
        """How many records it takes at once."""

    async def check(self, properties: Collection[str]) -> None:
        """Raises SyncError when the CRM says that it has no such properties, BusyError when it may be tried again."""

    async def send(self, records: Sequence[Record]) -> Reply:
        """Upserts records of different keys.

        Raises RefusedError when all were refused, BusyError when it may be tried again, and SyncError when no record
        would ever be taken.
        """


def check_refusal(answer: Answer) -> None:
    """Returns for a 2xx. Raises SyncError where token or address are wrong, RefusedError where the records are."""
    if answer.status < 300:
        return
    message = read_message(answer.body)
    if answer.status in {401, 403}:
        raise SyncError(
            f"{WHO} refused OUTCOMES_CRM_TOKEN with {answer.status}{message}. Check the token and its scopes"
        )
    if answer.status in {404, 405, 410}:
        raise SyncError(f"{WHO} answered {answer.status}{message}. Check the mapping file's [target]")
    raise RefusedError(f"{answer.status}{message}")


def open_target(token: str) -> httpx.AsyncClient:
    """The connections to the CRM; redirects are not followed, since they would carry the token elsewhere."""
    return httpx.AsyncClient(
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        timeout=httpx.Timeout(SEND_SECONDS, connect=10.0),
        follow_redirects=False,
    )
