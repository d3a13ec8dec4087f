"""Any endpoint that takes ``POST {"records": [{"id", "position", "properties"}]}`` with a bearer token.

Each batch carries an ``Idempotency-Key`` that follows from its content, positions included: a repeated batch has the
same, and a record that goes back to an earlier state has another. A larger position of the same id is the later state.
2xx takes all, unless the answer has ``{"results": [{"id", "status": "ok" | "error", "message"}]}``.
"""

import hashlib
from collections.abc import Mapping, Sequence

import httpx
import msgspec

from service.crm.errors import BusyError, RefusedError
from service.crm.exchange import MESSAGE_CHARACTERS, exchange
from service.crm.mapping import Generic
from service.crm.records import Record
from service.crm.targets import WHO, check_refusal

KEY_CHARACTERS = 32


class _Result(msgspec.Struct):
    id: str
    status: str = "ok"
    message: str | None = None


class _Results(msgspec.Struct):
    results: list[_Result] = []


class GenericTarget:
    """Posts batches to one address."""

    def __init__(self, http: httpx.AsyncClient, target: Generic) -> None:
        self._http = http
        self._url = target.url
        self.batch_size = target.batch_size

    async def send(self, records: Sequence[Record]) -> Mapping[str, str]:
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
        return _read_failures(answer.body, answer.status, {record.key for record in records})


def _read_failures(body: bytes, status: int, keys: set[str]) -> dict[str, str]:
    if not body.lstrip().startswith(b"{"):
        return {}  # statuses of single records are optional, and so is JSON
    try:
        results = msgspec.json.decode(body, type=_Results).results
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BusyError(f"{WHO} answered what cannot be read", status=status) from error
    failures = {}
    for result in results:
        if result.status == "ok":
            continue
        if result.id not in keys:
            raise RefusedError("an error names a record that was not sent")
        told = result.message or "no reason given"
        failures[result.id] = (told if result.status == "error" else f"status {result.status!r}: {told}")[
            :MESSAGE_CHARACTERS
        ]
    return failures
