"""Any endpoint that takes ``POST {"records": [{"id", "position", "properties"}]}`` with a bearer token.

Each batch carries an ``Idempotency-Key`` that follows from its content, positions included: a repeated batch has the
same, and a record that goes back to an earlier state has another. A larger position of the same id is the later state.
2xx without ``results`` confirms the whole batch; ``{"results": [{"id", "status": "ok" | "error", "message"}]}`` only
those that it names as ok.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import httpx
import msgspec

from service.crm.errors import BusyError, RefusedError, SyncError
from service.crm.exchange import MESSAGE_CHARACTERS, Answer, exchange, read_message
from service.crm.mapping import Generic
from service.crm.records import Record
from service.crm.targets import WHO, Reply, check_refusal

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
