"""The interface of a CRM, and the generic one: any endpoint that accepts a batch of records as JSON."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
import msgspec

from service.crm.exchange import (
    MAX_MESSAGE_CHARACTERS,
    BusyError,
    CrmAnswer,
    RefusedError,
    SyncError,
    exchange,
    read_message,
)
from service.crm.mapping import Generic
from service.crm.records import Record

WHO = "The CRM"
KEY_CHARACTERS = 32
SEND_SECONDS = 60.0

_Shape = TypeVar("_Shape")


@dataclass(frozen=True)
class Reply:
    """What an answer says about a batch: the keys that it confirms, and why it refused others. The rest count as not
    sent."""

    taken: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


class CrmTarget(Protocol):
    """A CRM. Its upserts may be repeated."""

    @property
    def batch_size(self) -> int:
        """Maximum number of records per call."""

    async def check(self, properties: Collection[str]) -> None:
        """Raises SyncError when the CRM lacks one of the properties, BusyError when the call may be repeated."""

    async def send(self, records: Sequence[Record]) -> Reply:
        """Upserts records of different keys.

        Raises RefusedError when all were refused, BusyError when the call may be repeated, and SyncError when no record
        would ever be accepted.
        """


def check_refusal(answer: CrmAnswer) -> None:
    """Raises SyncError when token or address are wrong, RefusedError when the records are; returns for a 2xx."""
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
    """The client for the CRM. It follows no redirects, which would send the token elsewhere."""
    return httpx.AsyncClient(
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        timeout=httpx.Timeout(SEND_SECONDS, connect=10.0),
        follow_redirects=False,
    )


class _Result(msgspec.Struct):
    id: str | int
    status: str = "ok"
    message: str | None = None


class _Results(msgspec.Struct):
    results: list[_Result] | None = None
    error: Any = None


class GenericTarget:
    """Sends ``POST {"records": [{"id", "position", "properties"}]}`` with a bearer token to one address.

    Each batch carries an ``Idempotency-Key`` derived from its content, positions included: a repeated batch has the
    same key, and a record that returns to an earlier state has another. A larger position of the same id is the later
    state. 2xx without ``results`` confirms the whole batch; with
    ``{"results": [{"id", "status": "ok" | "error", "message"}]}`` only those with status ok.
    """

    def __init__(self, http: httpx.AsyncClient, target: Generic) -> None:
        self._http = http
        self._url = target.url
        self.batch_size = target.batch_size

    async def check(self, properties: Collection[str]) -> None:
        """Checks nothing: such an endpoint does not list its properties."""

    async def send(self, records: Sequence[Record]) -> Reply:
        """As ``CrmTarget.send``."""
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


def decode(answer: CrmAnswer, shape: type[_Shape]) -> _Shape:
    """The body of an answer; raises BusyError when it cannot be decoded: a proxy may have cut it off."""
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BusyError(f"{WHO} sent an answer that cannot be decoded", status=answer.status) from error


def _read_reply(answer: CrmAnswer, keys: set[str]) -> Reply:
    body = answer.body.lstrip()
    if body.startswith(b"<"):
        raise SyncError(f"{WHO} answered {answer.status} with a web page, which confirms nothing. Check target.url")
    if not body.startswith(b"{"):
        return Reply(taken=frozenset(keys))  # statuses of single records are optional, and so is JSON
    content = decode(answer, _Results)
    if content.error:
        raise RefusedError(f"{answer.status}{read_message(body)}")
    if content.results is None:
        return Reply(taken=frozenset(keys))
    refused = {str(each.id): _describe_refusal(each) for each in content.results if each.status != "ok"}
    taken = frozenset(str(each.id) for each in content.results if each.status == "ok")
    return Reply(taken & keys, {key: reason for key, reason in refused.items() if key in keys})


def _describe_refusal(result: _Result) -> str:
    reason = result.message or "no reason given"
    return (reason if result.status == "error" else f"status {result.status!r}: {reason}")[:MAX_MESSAGE_CHARACTERS]
