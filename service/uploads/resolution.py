"""Manual resolution of an unknown upload, checked against the evidence: what it became, or that it was never sent.

Both can be wrong, and a wrong "not sent" dials everyone twice. So a refusal names the evidence against it, and a person
who knows better has to repeat those names.
"""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import asyncpg
import structlog

from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.formant.client import FormantClient
from service.formant.regions import Regions
from service.store.database import Database
from service.uploads.evidence import Evidence, add_calls, gather_evidence
from service.uploads.matching import Listed, could_be, describe_unreadable
from service.uploads.results import record_batch, record_failure

logger = structlog.get_logger()

MAX_SHOWN = 20


class Weighed(NamedTuple):
    """The evidence on an upload: the listed batches that it could be, the number of unreadable entries that it could
    be, whether its people have been called since, and whether webhooks prove that it was sent."""

    candidates: list[Listed]
    unreadable: int
    has_calls: bool
    is_known_sent: bool


class Resolver:
    """Settles unknown uploads and corrects guesses of a lookup, as a person decides.

    ``client`` is None where no key for the provider is configured.
    """

    def __init__(self, database: Database, client: FormantClient | None, regions: Regions) -> None:
        self._database = database
        self._client = client
        self._regions = regions

    async def adopt(self, batch_key: int, batch_id: int, *, accept_difference: bool) -> None:
        """Records that the upload became batch ``batch_id``.

        Raises NotFoundError, ConflictError when the upload is not unknown or the batch is another's,
        InvalidRequestError when their counts differ and that is not accepted, ProviderError.
        """
        upload = await self._require_open(batch_key, known_by_lookup=batch_id)
        batch = await self._require_client().get_batch(batch_id)
        listed = Listed.read(batch)
        if listed.agent_id not in {None, upload["agent_id"]}:
            raise InvalidRequestError(
                f"batch_id: {batch_id} is of agent {listed.agent_id}, the upload of {upload['agent_id']}"
            )
        details: dict[str, Any] = {}
        if listed.recipients != upload["recipients"]:
            if not accept_difference:
                count = "an unknown number of" if listed.recipients is None else listed.recipients
                raise InvalidRequestError(
                    f"batch_id: {batch_id} has {count} recipients, the upload {upload['recipients']}: "
                    'if it is this upload all the same, send "accept_difference": true'
                )
            details = {"recipients": upload["recipients"], "provider_recipients": listed.recipients}
        is_recorded = await record_batch(
            self._database, batch_key, batch, known_by="person", sent_at=upload["sent_at"], details=details
        )
        if not is_recorded:
            raise _resolved_meanwhile(batch_key)
        logger.info("upload_resolved", upload_id=batch_key, batch_id=batch_id)

    async def declare_not_sent(
        self, batch_key: int, not_these: Collection[int] | None, *, accept_unreadable: bool
    ) -> None:
        """Records that the upload was never sent: it is no batch of ``not_these`` and, with ``accept_unreadable``, none
        of the list's unreadable entries.

        Raises NotFoundError, ConflictError when the upload is not unknown, was certainly sent, or may be an unreadable
        entry or a batch that ``not_these`` does not name, ProviderError.
        """
        upload = await self._require_open(batch_key)
        found = await self._weigh(batch_key)
        if found.is_known_sent:
            raise _was_sent(batch_key)
        candidates, unreadable, has_calls = found.candidates, found.unreadable, found.has_calls
        denied = set(not_these or ())
        is_denied = denied.issuperset(batch.id for batch in candidates) and (not_these is not None or not has_calls)
        if not is_denied or (unreadable and not accept_unreadable):
            raise _refuse(batch_key, candidates, unreadable, has_calls=has_calls)
        details: dict[str, Any] = {} if not_these is None else {"not_these": sorted(denied)}
        state = await record_failure(
            self._database,
            batch_key,
            ["unknown"],
            "declared not sent",
            known_by="person",
            sent_at=upload["sent_at"],
            details=details | ({"unreadable_entries": unreadable} if unreadable else {}),
        )
        if state is None:
            raise _resolved_meanwhile(batch_key)
        if state == "unknown":
            raise _was_sent(batch_key)
        logger.info("upload_resolved", upload_id=batch_key, state=state)

    async def find_evidence(self, batch_key: int) -> Weighed:
        """The evidence on an unknown upload. Raises NotFoundError, ConflictError when it is not unknown,
        ProviderError."""
        await self._require_open(batch_key)
        return await self._weigh(batch_key)

    async def _weigh(self, batch_key: int) -> Weighed:
        client = self._require_client()
        evidence = await gather_evidence(self._database, client, batch_key)
        if not evidence.is_known_sent:
            evidence = await add_calls(self._database, client, evidence, [], self._regions)
        return Weighed(
            find_candidates(evidence),
            sum(could_be(evidence.upload, entry) for entry in evidence.unreadable),
            evidence.has_calls or evidence.called_people > 0,
            evidence.is_known_sent,
        )

    async def _require_open(self, batch_key: int, *, known_by_lookup: int | None = None) -> asyncpg.Record:
        """The upload, when a person may decide on it: it is unknown, or a lookup guessed another batch."""
        upload: asyncpg.Record | None = await self._database.queries.get_upload(
            self._database.pool, batch_key=batch_key
        )
        if upload is None:
            raise NotFoundError(f"There is no upload {batch_key}")
        if known_by_lookup is not None and upload["batch_id"] not in {None, known_by_lookup}:
            rows = self._database.queries.select_known_batches(self._database.pool, batch_ids=[upload["batch_id"]])
            if [row["known_by"] async for row in rows] == ["lookup"]:
                return upload
        if upload["state"] != "unknown":
            raise ConflictError(f"Upload {batch_key} is {upload['state']}: only one that is unknown can be resolved")
        return upload

    def _require_client(self) -> FormantClient:
        if self._client is None:
            raise ConflictError("FORMANT_API_KEY is empty, so the provider cannot be asked for its batches")
        return self._client


def find_candidates(evidence: Evidence) -> list[Listed]:
    """The listed batches that could be the upload, without those that the provider's own answer gave to another."""
    answered = {
        batch_id
        for batch_id, known in evidence.known.items()
        if known.upload_id is not None and known.known_by == "answer"
    }
    return [batch for batch in evidence.listed if could_be(evidence.upload, batch) and batch.id not in answered]


def _refuse(batch_key: int, candidates: list[Listed], unreadable: int, *, has_calls: bool) -> ConflictError:
    why = []
    if candidates:
        shown = "; ".join(batch.describe() for batch in candidates[:MAX_SHOWN])
        why.append(f"the provider lists {len(candidates)} that could be it: {shown}")
    if unreadable:
        why.append(describe_unreadable(unreadable))
    if has_calls:
        why.append("its people have been called since")
    ids = [batch.id for batch in candidates]
    word: dict[str, Any] = {"not_sent": True}
    if candidates or has_calls:
        word["not_these"] = ids[:MAX_SHOWN]
    if unreadable:
        word["accept_unreadable"] = True
    return ConflictError(
        f"Upload {batch_key} may have been sent, and to send it again would call its people twice: "
        f"{'; and '.join(why)}. If it became one of these, send its batch_id. If you know that it is none, say so of "
        f"all of them: {json.dumps(word)}",
        details={
            "not_these": ids,
            "unreadable_entries": unreadable,
            "candidates": [
                {
                    "batch_id": batch.id,
                    "name": batch.name,
                    "recipients": batch.recipients,
                    "created_at": batch.created_at,
                }
                for batch in candidates
            ],
        },
    )


def _was_sent(batch_key: int) -> ConflictError:
    return ConflictError(f"Upload {batch_key} was sent: webhooks of its recipients have come in")


def _resolved_meanwhile(batch_key: int) -> ConflictError:
    return ConflictError(f"Upload {batch_key} was resolved meanwhile: see GET /v1/uploads/{batch_key}")
