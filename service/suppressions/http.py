"""The list of people who must not be called, over HTTP."""

import re
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError, NotFoundError
from service.formant.regions import Regions
from service.phones.parsing import PhoneError, normalise_phone
from service.suppressions.phones import read_all, read_phones
from service.suppressions.suppressions import MAX_REASON_CHARACTERS, Suppression, SuppressionList
from service.uploads.files import receive_file
from service.web.operations import Answer, File, Json, Operation
from service.web.parameters import Fields, Free, Number, Parameter, Region, Text, read_json
from service.web.responses import JsonResponse, One, Page, to_page

MAX_PHONES = 5000
MAX_BODY_BYTES = 512 * 1024
EXAMPLE = '{"phones": ["+919876543210"], "reason": "asked by letter"}'
REASON = Text("reason", "Why, without names; for a CSV as the body", default=None, maximum=MAX_REASON_CHARACTERS)
SOURCE = Text("source", "Who says so, in a word; for a CSV as the body", default="api", maximum=40)
REGION = Region("region", "The country of phones without a country code; otherwise OUTCOMES_DEFAULT_REGION").with_hints(
    words=("country",)
)
PHONE_COLUMN = Text(
    "phone_column", "The column of a CSV with the phones; otherwise customer_phone", default=None, maximum=500
).with_hints(words=("phone", "column"))
FIELDS: tuple[Parameter[Any, Any], ...] = (REASON, SOURCE, REGION, PHONE_COLUMN)
PHONE = Free("phone", "Only this person, by phone (`%2B91…`)", "a phone")
REMOVED_PHONE = Free("phone", "The person's phone (`%2B91…`); required", "a phone")
REMOVED_REASON = Text("reason", "Why; required", default=None, maximum=MAX_REASON_CHARACTERS)
LIMIT = Number("limit", "Maximum number of people", default=100, minimum=1, maximum=1000)
AFTER = Number("after", "`next` of the page before", default=None, minimum=1, maximum=2**62)


class People(msgspec.Struct, forbid_unknown_fields=True):
    """People to suppress."""

    phones: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_PHONES)]
    """In E.164 or any other spelling; national with a ``region``."""
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON_CHARACTERS)]
    """Why, without names: it is listed and logged."""
    source: str = "api"
    """Who says so, in a word."""
    region: str = ""
    """The country of phones without a country code; otherwise OUTCOMES_DEFAULT_REGION."""


class Suppressed(msgspec.Struct):
    """What was done."""

    people: int
    """Those who are new on the list."""
    known: int
    """Those who were on it already."""
    waiting_rows: int
    """Rows of uploads that are not sent yet, such as held ones, that are left out because of them."""


class Removed(msgspec.Struct):
    """Who was removed."""

    person: str


class Suppressions:
    """Handlers of ``/v1/suppressions``."""

    def __init__(self, suppressions: SuppressionList, regions: Regions) -> None:
        self._list = suppressions
        self._regions = regions

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "POST", "/v1/suppressions", self.add, "upload", "Suppressions",
                parameters=FIELDS,
                bodies=(Json(People, f"At most {MAX_PHONES} phones, such as `{EXAMPLE}`"),
                        File("Any number of phones: a CSV with a column of phones, or a phone on each line")),
                answers=(Answer(One[Suppressed]),), errors=(InvalidRequestError,),
            ),
            Operation(
                "GET", "/v1/suppressions", self.list, "upload", "Suppressions",
                parameters=(PHONE, LIMIT, AFTER), answers=(Answer(Page[Suppression]),),
            ),
            Operation(
                "DELETE", "/v1/suppressions", self.remove, "upload", "Suppressions",
                parameters=(REMOVED_PHONE, REMOVED_REASON), answers=(Answer(One[Removed]),), errors=(NotFoundError,),
            ),
        ]  # fmt: skip

    async def add(self, request: Request) -> Response:
        """Suppresses people: uploads leave them out from now on, also those that are stored and not sent yet. All
        phones are checked before the first is suppressed. The same again is harmless."""
        if request.headers.get("content-type", "").lower().startswith("application/json"):
            people = await read_json(request, People, EXAMPLE, maximum=MAX_BODY_BYTES)
            reason, source = people.reason.strip(), people.source
            region = REGION.parse(people.region) if people.region else REGION.read(request) or self._regions.sole
            phones = read_all(((f"phones[{index}]:", phone) for index, phone in enumerate(people.phones)), region)
        else:
            async with receive_file(request) as (file, form):
                fields = Fields(request, form, FIELDS)
                region, phone_column = fields.read(REGION) or self._regions.sole, fields.read(PHONE_COLUMN) or ""
                source, reason = fields.read(SOURCE), fields.require(REASON)
                phones = await read_phones(file.path, region, phone_column)
        added = await self._list.add(phones, reason, source)
        return JsonResponse(One(Suppressed(added.people, len(phones) - added.people, added.waiting_rows)))

    async def list(self, request: Request) -> Response:
        """The people who must not be called, the latest first, without their phones. ``phone`` finds one of them."""
        limit, before, text = LIMIT.read(request), AFTER.read(request) or 2**62, PHONE.read(request)
        if text is not None:
            found = await self._list.find(self._read_phone(text))
            return JsonResponse(Page([] if found is None else [found], None, False))
        return JsonResponse(to_page(await self._list.list(before, limit + 1), limit, "suppression_no"))

    async def remove(self, request: Request) -> Response:
        """Removes a person from the list, so that later uploads may call them again. Rows that were left out of an
        upload stay out."""
        text, reason = REMOVED_PHONE.read(request), REMOVED_REASON.read(request)
        if text is None or reason is None:
            raise InvalidRequestError("phone and reason: send both, such as ?phone=%2B919876543210&reason=asked+again")
        person = await self._list.remove(self._read_phone(text), reason)
        if person is None:
            raise NotFoundError("This person is not on the list")
        return JsonResponse(One(Removed(person)))

    def _read_phone(self, text: str) -> str:
        # A "+" that was not encoded arrives as a blank.
        text = f"+{text[1:]}" if re.match(r" [0-9]", text) else text
        try:
            return normalise_phone(text, self._regions.sole)
        except PhoneError as error:
            raise InvalidRequestError(f"phone: {error.problem}: {error.remedy}") from error
