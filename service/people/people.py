"""Finds people across batches, by phone, by a parameter or by name, and reads a person's timeline.

A person is a phone in E.164. Erased people, and those whose retention period is over, have none, so they are not found.
Each look-up is in the audit log, with pseudonyms of the people that it returned.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from service.access.audit import record_audit
from service.errors import InvalidRequestError, NotFoundError
from service.store.database import Database

MAX_MATCHES = 5000
"""Recipients that a search by parameter or name looks at: one with more is refused, because it finds nobody."""
MAX_RECIPIENTS = 50
"""Recipients shown of one person, the latest."""
MAX_TIMELINE_RECIPIENTS = 500
MIN_PREFIX = 3
"""A word of a name that is shorter has to be the whole word."""
MAX_WORDS = 8
_SEPARATORS = re.compile(r"[ \t\r\n.,;:/()_\"'\\|&!<>*-]+")
"""The same as in name_words(), in sql/migrations/0043_callbacks.sql."""


class Search(NamedTuple):
    """What people are searched by: parameters that a recipient has as JSON (in either of two forms), or a tsquery."""

    contained: str | None = None
    or_contained: str | None = None
    words: str | None = None


class Person(NamedTuple):
    """A row of the query ``list_people``, and the rows of its latest recipients."""

    row: Any
    recipients: Sequence[Any]
    place: int | None
    """The place in the list; None for a search by phone."""


def search_parameter(name: str, value: str) -> Search:
    """By a parameter's exact value; one that JSON would write as a number or a boolean may be stored as that."""
    contained = json.dumps({name: value})
    is_plain = re.fullmatch(r"true|false|-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,6})?", value) is not None
    return Search(contained=contained, or_contained=f"{{{json.dumps(name)}: {value}}}" if is_plain else contained)


def has_short_word(text: str) -> bool:
    """Whether a name has a word that is found only as a whole."""
    return any(0 < len(word) < MIN_PREFIX for word in _SEPARATORS.split(text))


def search_name(text: str) -> Search:
    """By the words of a name, all of which must match, each as a prefix unless it is short. Raises InvalidRequestError
    for a name without words.

    A server whose locale is C lowers ASCII alone, so a word is searched in several spellings.
    """
    words = [word for word in _SEPARATORS.split(text) if word]
    if not words or len(words) > MAX_WORDS:
        raise InvalidRequestError(f"name: takes 1 to {MAX_WORDS} words of a name")
    spellings = [sorted({word.lower(), word.upper(), word.title()}) for word in words]
    return Search(
        words=" & ".join(
            "(" + " | ".join(f"'{each}'{':*' if len(each) >= MIN_PREFIX else ''}" for each in group) + ")"
            for group in spellings
        )
    )


class People:
    """Looks people up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_phone(self, phone: str) -> list[Person]:
        """The person with this phone, in E.164, if there is one."""
        found = await self._describe({phone: None})
        await self._record("phone", found)
        return found

    async def search(self, by: str, search: Search, before: int, limit: int) -> list[Person]:
        """People by parameter or name, those in the latest batches first, before a place. Raises InvalidRequestError
        when too many recipients match."""
        page = self._database.queries.match_people(
            self._database.pool, **search._asdict(), most=MAX_MATCHES, before=before, limit=limit
        )
        matched = [row async for row in page]
        if matched and matched[0]["matches"] >= MAX_MATCHES:
            raise InvalidRequestError(
                f"{by}: matches {MAX_MATCHES} recipients or more: search by something that fewer people have"
            )
        found = await self._describe({row["phone"]: row["place"] for row in matched})
        await self._record(by, found)
        return found

    async def read_timeline(self, phone: str, before: Any, limit: int) -> list[Any]:
        """Rows of the query ``list_timeline``. Raises NotFoundError for an unknown phone."""
        found = await self._describe({phone: None})
        if not found:
            raise NotFoundError("There is no person with this phone: it is in no batch and no call, or was erased")
        steps = self._database.queries.list_timeline(
            self._database.pool, phone=phone, most=MAX_TIMELINE_RECIPIENTS, before=before, limit=limit
        )
        rows = [row async for row in steps]
        subject = f"person {found[0].row['person']}"
        await record_audit(self._database, self._database.pool, "timeline_read", subject, "shown", steps=len(rows))
        return rows

    async def reveal(self, batch_id: int, recipient: int) -> Any:
        """Phone, parameters and pseudonym of a recipient. Raises NotFoundError, also for somebody who was erased."""
        row = await self._database.queries.get_person(
            self._database.pool, batch_id=batch_id, recipient_no=min(recipient, 2**31 - 1)
        )
        if row is None:
            raise NotFoundError(
                f"There is no person for recipient {recipient} of batch {batch_id}: there is no such recipient, or the "
                "person was erased, or has been kept for long enough"
            )
        subject = f"batch {batch_id}, recipient {recipient}"
        await record_audit(self._database, self._database.pool, "person_revealed", subject, "shown")
        return row

    async def _describe(self, places: dict[str, int | None]) -> list[Person]:
        queries, pool, phones = self._database.queries, self._database.pool, list(places)
        if not phones:
            return []
        rows = {row["phone"]: row async for row in queries.list_people(pool, phones=phones)}
        recipients: dict[str, list[Any]] = {phone: [] for phone in phones}
        async for row in queries.list_recipients_of_people(pool, phones=list(rows), most=MAX_RECIPIENTS):
            recipients[row["person_phone"]].append(row)
        return [Person(rows[phone], recipients[phone], place) for phone, place in places.items() if phone in rows]

    async def _record(self, by: str, found: list[Person]) -> None:
        people = [person.row["person"] for person in found]
        outcome = "found" if found else "not found"
        await record_audit(self._database, self._database.pool, "people_found", "people", outcome, by=by, people=people)
