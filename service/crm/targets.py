"""What every CRM is to the job: something that takes a batch of records and says which of them it took."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import msgspec

from service.crm.exchange import MESSAGE_CHARACTERS, Answer, BusyError, RefusedError, SyncError, exchange, read_message
from service.crm.mapping import Generic
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


KEY_CHARACTERS = 32


class _Result(msgspec.Struct):
    id: str | int
    status: str = "ok"
    message: str | None = None


class _Results(msgspec.Struct):
    results: list[_Result] | None = None
    error: Any = None


class GenericTarget:
    """Posts batches to one address."""

    def __init__(self, http: httpx.AsyncClient, target: Generic) -> None:
        self._http = http
        self._url = target.url
        self.batch_size = target.batch_size

    async def check(self, properties: Collection[str]) -> None:
        """Nothing: such an endpoint does not say what it takes."""

    async def send(self, records: Sequence[Record]) -> Reply:
        """As ``Target.send``."""
        body = msgspec.json.encode(
            {
                "records": [
                    {"id": record.key, "position": record.position, "properties": record.properties}
                    for record in records
                ]
            }
        )
        headers = {"idempotency-key": hashlib.sha256(body).hexdigest()[:KEY_CHARACTERS]}
        answer = await exchange(self._http, WHO, "POST", self._url, content=body, headers=headers)
        check_refusal(answer)
        return _read_reply(answer, {record.key for record in records})


def _read_reply(answer: Answer, keys: set[str]) -> Reply:
    body = answer.body.lstrip()
    if body.startswith(b"<"):
        raise SyncError(f"{WHO} answered {answer.status} with a web page, which confirms nothing. Check target.url")
    if not body.startswith(b"{"):
        return Reply(taken=frozenset(keys))  # statuses of single records are optional, and so is JSON
    try:
        content = msgspec.json.decode(body, type=_Results)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BusyError(f"{WHO} answered what cannot be read", status=answer.status) from error
    if content.error:
        raise RefusedError(f"{answer.status}{read_message(body)}")
    if content.results is None:
        return Reply(taken=frozenset(keys))
    refused = {str(each.id): _describe(each) for each in content.results if each.status != "ok"}
    taken = frozenset(str(each.id) for each in content.results if each.status == "ok")
    return Reply(taken & keys, {key: reason for key, reason in refused.items() if key in keys})


def _describe(result: _Result) -> str:
    told = result.message or "no reason given"
    return (told if result.status == "error" else f"status {result.status!r}: {told}")[:MESSAGE_CHARACTERS]
