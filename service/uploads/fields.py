"""The fields of an upload: what each takes, which slips are refused, and the request that they make up."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, get_args

from starlette.requests import Request

from service.errors import InvalidRequestError
from service.uploads.files import ReceivedFile, keep_file, receive_form
from service.uploads.report import DelimiterName, Duplicates, EncodingName, Invalid
from service.uploads.storing import UploadRequest
from service.web.parameters import Choice, Fields, Flag, Number, Parameter, Percent, Region, Text

MAX_NAME_CHARACTERS = 200
MAX_AGENT_ID = 2**63 - 1
MAX_ROWS = 10**7
MAX_DAYS = 365
_KEY = re.compile(r'"([ !#-~]{1,255})"|([!#-~]{1,255})')


class IdempotencyKey(Parameter[str, None]):
    """The header of draft-ietf-httpapi-idempotency-key-header: a quoted string; a bare one is accepted too."""

    place = "header"

    def __init__(self) -> None:
        description = "The same key again returns the same batch, and calls nobody twice; with another request: 422"
        takes = "1 to 255 printable characters in quotes, such as a UUID"
        schema = {"type": "string", "pattern": f"^(?:{_KEY.pattern})$"}
        super().__init__("Idempotency-Key", description, takes, schema, None)

    def _parse(self, text: str) -> str:
        match = _KEY.fullmatch(text.strip())
        if match is None:
            raise ValueError(text)
        return match[1] or match[2]


class Duration(Parameter[timedelta, None]):
    """A time in days or hours, such as 7d or 36h."""

    def __init__(self, name: str, description: str) -> None:
        takes = f"days or hours such as 7d or 36h, at most {MAX_DAYS}d"
        super().__init__(name, description, takes, {"type": "string", "pattern": "^[1-9][0-9]{0,3}[dh]$"}, None)

    def _parse(self, text: str) -> timedelta:
        match = re.fullmatch(r"([1-9][0-9]{0,3})([dh])", text.strip(), re.ASCII)
        if match is None:
            raise ValueError(text)
        duration = timedelta(**{"days" if match[2] == "d" else "hours": int(match[1])})
        if duration > timedelta(days=MAX_DAYS):
            raise ValueError(text)
        return duration


class Digest(Parameter[str, None]):
    """A SHA-256 in hex."""

    def __init__(self, name: str, description: str) -> None:
        schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        super().__init__(name, description, "64 hexadecimal digits, as a dry run answers them", schema, None)

    def _parse(self, text: str) -> str:
        if re.fullmatch("[0-9a-f]{64}", text) is None:
            raise ValueError(text)
        return text


IDEMPOTENCY_KEY = IdempotencyKey().with_hints(example='"march-follow-ups-1"')
AGENT_ID = Number("agent_id", "The agent that calls", default=None, minimum=0, maximum=MAX_AGENT_ID).with_hints(
    example=123
)
NAME = Text("name", "The batch's name", default=None, maximum=MAX_NAME_CHARACTERS).with_hints(
    example="March Follow Ups"
)
DRY_RUN = Flag("dry_run", "Only check the file: nothing is stored or sent").with_hints(
    example=True,
    words=("dry", "simulate", "simulation", "preview", "validate", "validation", "verify", "check", "mock", "noop",
           "draft", "sandbox", "whatif", "nocall", "nocalls", "dontcall", "donotcall", "nosend", "dontsend"),
)  # fmt: skip
DUPLICATES = Choice[Duplicates, Duplicates](
    "duplicates", "A repeated phone: `reject` the file, keep the `first`, or call `all` rows",
    get_args(Duplicates), default="reject",
).with_hints(example="reject", words=("duplicate", "dedupe", "dedup", "deduplicate", "unique"))  # fmt: skip
ACCEPT_COLUMNS = Flag("accept_columns", "Make the file's columns the agent's from now on").with_hints(example=False)
FORCE = Flag(
    "force", "Call these people again, although the same file was uploaded within 24 hours, or may have been sent"
).with_hints(example=False)
TEST_RECIPIENTS = Number(
    "test_recipients", "Call a random sample of this size, and hold the rest for `…/promote`; 0: call all",
    default=0, minimum=0, maximum=MAX_ROWS,
).with_hints(
    example=20,
    words=("test", "tests", "testing", "sample", "pilot", "trial", "limit", "max", "cap", "subset", "canary", "percent",
           "batchsize", "rows"),
)  # fmt: skip
PROMOTE_AT_SUCCESS_RATE = Percent(
    "promote_at_success_rate",
    "With `test_recipients`: call the rest once the test batch is `complete` with at least this percentage",
    default=None,
).with_hints(example=60, words=("promote", "threshold"))
PROMOTE_AT_GOAL_RATE = Percent(
    "promote_at_goal_rate",
    "Likewise with the percentage of recipients that meet the agent's goal (`PUT /v1/agents/{agent_id}/goal`)",
    default=None,
).with_hints(example=30, words=("goal",))
REGION = Region(
    "region", "The country of the phones without a country code; otherwise `OUTCOMES_DEFAULT_REGION`"
).with_hints(example="IN", words=("country",))
INVALID = Choice[Invalid, Invalid](
    "invalid", "Rows with errors: `reject` the file, or `skip` them and call the others", get_args(Invalid),
    default="reject",
).with_hints(example="reject", words=("error", "errors"))  # fmt: skip
PHONE_COLUMN = Text(
    "phone_column", "The name of the column with the phones; it goes out as `customer_phone`", default=None, maximum=500
).with_hints(example="customer_phone", words=("phone", "column"))
SHEET = Text("sheet", "The sheet of a workbook; otherwise its first", default=None, maximum=200).with_hints(
    example="Sheet1", words=("sheet", "worksheet", "tab")
)
ENCODING = Choice[EncodingName, None](
    "encoding", "How the letters of a CSV are encoded; otherwise it is found out", get_args(EncodingName), default=None
).with_hints(example="utf-8", words=("encoding", "charset", "codepage"))
DELIMITER = Choice[DelimiterName, None](
    "delimiter", "What separates the cells of a CSV; otherwise it is found out", get_args(DelimiterName), default=None
).with_hints(example="comma", words=("delimiter", "separator", "sep"))
REPORT_DIGEST = Digest(
    "report_digest",
    "The `report_digest` of a dry run: 409 if the file, the choices or the number of people differ, or if the same "
    "file was uploaded within 24 hours, even with another key",
).with_hints(example="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
CALLED_WITHIN = Duration(
    "called_within", "Count the people of the file who were called within this time, in any batch; a dry run counts 7d"
).with_hints(example="7d", words=("called",))
SKIP_CALLED_WITHIN = Duration("skip_called_within", "Leave out the people who were called within this time").with_hints(
    example="7d", words=("recent", "recently", "cooldown", "exclude", "suppress", "blocklist", "skip")
)
FIELDS: tuple[Parameter[Any, Any], ...] = (
    AGENT_ID, NAME, DRY_RUN, DUPLICATES, ACCEPT_COLUMNS, FORCE, TEST_RECIPIENTS, PROMOTE_AT_SUCCESS_RATE,
    PROMOTE_AT_GOAL_RATE, REGION,
    INVALID, PHONE_COLUMN, SHEET, ENCODING, DELIMITER, CALLED_WITHIN, SKIP_CALLED_WITHIN, REPORT_DIGEST,
)  # fmt: skip
AT_ONCE = "an upload is sent at once, and its people are called; upload the file at the time that is meant"
REFUSED = dict.fromkeys(
    ("schedule", "scheduled", "scheduling", "delay", "later", "start", "starts", "begin", "send", "hold", "before",
     "wait", "pause", "delayed"), AT_ONCE,
)  # fmt: skip
"""Words of fields that would have the calls made at another time, which neither this service nor the provider can."""
REFUSED_ALONE = {
    **dict.fromkeys(("when", "at", "date", "time", "day", "hour", "hours", "window"), AT_ONCE),
    **dict.fromkeys(("call", "calls", "calling", "run", "runs"), ""),
}
"""Likewise, in fields whose names consist of these words; ``created_at`` has another."""


@asynccontextmanager
async def receive_upload(request: Request) -> AsyncIterator[tuple[Fields, UploadRequest]]:
    """The fields of a request, and what it asks for; its file is kept while the block runs."""
    async with receive_form(request) as form:
        fields = Fields(request, form, (*FIELDS, IDEMPOTENCY_KEY), REFUSED, REFUSED_ALONE)
        async with keep_file(form) as file:
            yield fields, _read_request(request, fields, file)


def _read_request(request: Request, fields: Fields, file: ReceivedFile) -> UploadRequest:
    test_recipients = fields.read(TEST_RECIPIENTS)
    promote_at, promote_at_goal = fields.read(PROMOTE_AT_SUCCESS_RATE), fields.read(PROMOTE_AT_GOAL_RATE)
    for field, rate in ((PROMOTE_AT_SUCCESS_RATE, promote_at), (PROMOTE_AT_GOAL_RATE, promote_at_goal)):
        if rate is not None and not test_recipients:
            raise InvalidRequestError(f"{field.name}: needs test_recipients=N, the batch that it is measured by")
    name = fields.require(NAME)
    encoding, delimiter = fields.read(ENCODING), fields.read(DELIMITER)
    longest = MAX_NAME_CHARACTERS - (len(" (test)") if test_recipients else 0)
    if len(name) > longest:
        raise InvalidRequestError(f"name: takes 1 to {longest} characters")
    return UploadRequest(
        agent_id=fields.require(AGENT_ID),
        name=name,
        path=file.path,
        file_digest=file.digest,
        duplicates=fields.read(DUPLICATES),
        region=fields.read(REGION) or "",
        invalid=fields.read(INVALID),
        phone_column=fields.read(PHONE_COLUMN) or "",
        sheet=fields.read(SHEET) or "",
        encoding=encoding,
        delimiter=delimiter,
        report_digest=fields.read(REPORT_DIGEST) or "",
        called_within=fields.read(CALLED_WITHIN),
        skip_called_within=fields.read(SKIP_CALLED_WITHIN),
        accept_columns=fields.read(ACCEPT_COLUMNS),
        force=fields.read(FORCE),
        idempotency_key=IDEMPOTENCY_KEY.read(request),
        test_recipients=test_recipients,
        promote_at_success_rate=promote_at,
        promote_at_goal_rate=promote_at_goal,
    )
