"""Whatever bytes a caller sends as a file, a parameter or a body: an answer that says what is wrong, never a 500."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.spelling import reduce
from service.uploads.report import PHONE_COLUMN, ContactsOptions, ContactsReport
from tests.conftest import API_KEY
from tests.factories import BATCH_ID
from tests.uploads.checked import check
from tests.web.fuzzing import Answer, Fuzzed, open_fuzzed

EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KNOWN = {"batch_id": str(BATCH_ID), "recipient": "1", "agent_id": "123", "campaign_id": "1", "format": "ndjson"}

CHANGES = [
    b"PUT /v1/feed/consumers/fuzz", b"POST /v1/erasures", b"POST /v1/uploads/1/resolve",
    b"PUT /v1/batch-calls/456/recipients", b"POST /v1/batch-call",
]  # fmt: skip
KINDS = [
    b"application/json", b"text/csv", b"multipart/form-data; boundary=cut", b"multipart/form-data; boundary=",
    b"multipart/form-data", b"\xff",
]  # fmt: skip
KEYS = ["position", "reset", "phone", "dry_run", "batch_id", "not_sent", "\x00"]


@pytest.fixture
def fuzzed(database_url: str) -> Iterator[Fuzzed]:
    with open_fuzzed(database_url) as opened:
        yield opened


# Files: a good one whose bytes were damaged, in any encoding.
_cells = st.text(max_size=8) | st.sampled_from(
    ["", '"', "a,b", "a\nb", "\r", "\x00", "=1+1", "+919876543210", "९१", "\ufeff", "'", " +91 98765 43210 ", "1e9"]
)
_phones = st.sampled_from(["+919876543210", "+919812345678", "+1 650 253 0000", "9876543210", "+91", ""]) | _cells


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A CSV as a person may have saved it, with some bytes lost, doubled or foreign."""
    columns = [PHONE_COLUMN, *draw(st.lists(_cells, max_size=3))]
    columns = draw(st.permutations(columns))
    output = io.StringIO()
    write = csv.writer(
        output, delimiter=draw(st.sampled_from(",;\t|")), lineterminator=draw(st.sampled_from(["\n", "\r\n"]))
    )
    write.writerow(columns)
    for _ in range(draw(st.integers(0, 4))):
        row = [draw(_phones) if name == PHONE_COLUMN else draw(_cells) for name in columns]
        write.writerow(row[: draw(st.sampled_from([len(row), len(row), len(row), 1]))])
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-16-be"]))
    content = output.getvalue().encode(encoding, "replace")
    at = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(["whole", "whole", "cut", "within", "lost"])):
        case "cut":
            return content[:at]
        case "within":
            return (
                content[:at]
                + draw(st.binary(max_size=4) | st.sampled_from([b'"', b"\x00", b"\xff", b"\n"]))
                + content[at:]
            )
        case "lost":
            return content[:at] + content[at + draw(st.integers(1, 4)) :]
    return content


@settings(EXAMPLES, max_examples=600)
@given(
    file=files() | st.binary(max_size=60),
    region=st.sampled_from(["", "IN"]),
    duplicates=st.sampled_from(["reject", "first", "all"]),
)
def test_a_file_is_read_or_every_error_says_where_and_what_to_do(file: bytes, region: str, duplicates: Any) -> None:
    options, refused = ContactsOptions(ref_column="outcome_ref", duplicates=duplicates, region=region), ""
    try:
        report, contacts, upload = check(file, options)
    except InvalidRequestError as refusal:
        refused = refusal.message
        report, contacts, upload = ContactsReport(columns=[], names=[]), [], ""
    if not report.columns:
        assert refused.startswith("file: ")
        return
    lines = file.count(b"\n") + file.count(b"\r") + 1
    for error in report.errors:
        assert 1 < error.line <= lines
        assert error.column is None or error.column in report.columns or reduce(error.column) == "customerphone"
        assert error.problem
        assert error.remedy
    assert report.error_count >= len(report.errors) > 0 or report.recipients > 0
    # What was accepted reads the same from what goes to the provider.
    rows = list(csv.DictReader(io.StringIO(upload, newline="")))
    assert len(rows) == len(contacts) == report.recipients == report.part_counts[0]
    for row, contact in zip(rows, contacts, strict=True):
        assert row.pop("outcome_ref") == f"feedc0de-{contact.recipient_no}"
        assert row.pop(PHONE_COLUMN) == contact.phone
        assert row == json.loads(contact.parameters)
        assert "\x00" not in "".join(row.values())


# Starlette leaves the file of a part that never ends to the garbage collector, which closes it, and says so.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function SpooledTemporaryFile")
@EXAMPLES
@given(
    file=files() | st.binary(max_size=60),
    name=st.binary(max_size=12).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"").replace(b'"', b"")),
    kind=st.sampled_from([b"text/csv", b"text/csv; charset=utf-16", b"application/octet-stream", b"\xff/\xfe", b""]),
    damage=st.tuples(st.floats(0, 1), st.integers(0, 20)) | st.none(),
)
def test_any_form_is_answered_by_a_report_or_a_reason(
    fuzzed: Fuzzed, file: bytes, name: bytes, kind: bytes, damage: tuple[float, int] | None
) -> None:
    form = b"".join(
        b"--cut\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n" % field
        for field in ((b"agent_id", b"123"), (b"name", b"Fuzzed"), (b"dry_run", b"true"))
    )
    form += b'--cut\r\nContent-Disposition: form-data; name="file"; filename="%s.csv"\r\nContent-Type: %s\r\n\r\n' % (
        name,
        kind,
    )
    form += file + b"\r\n--cut--\r\n"
    if damage is not None:
        at = round(damage[0] * len(form))
        form = form[:at] + form[at + damage[1] :]
    path = b"/v1/batch-call?dry_run=true"  # the form's own may be cut out
    answer = call(fuzzed, b"POST", path, (b"Content-Type", b"multipart/form-data; boundary=cut"), body=form)
    assert answer.status in {200, 400, 413}, answer
    if answer.status == 200:
        report = json.loads(answer.body)["data"]
        assert all(error["line"] > 1 and error["remedy"] for error in report["errors"])


# Parameters: of every call that reads, each one that it declares, with anything in it.
LIKELY = [
    b"", b"0", b"-1", b"00", b"+5", b"1e3", b"1_0", b"9" * 18, b"9" * 19, b"9" * 5000, b"true", b"TRUE ", b"null",
    b"\x00", b"\xff", b"\xed\xa0\x80", "\u0663".encode(), "\u00b2".encode(), b"NaN", b"inf", b"-0", b"*", b"%", b"'",
    b'"', b"\\", b"a:b",
    b"results.", b"results.intent", b"results.\x00", b"intent:", b":", b"2026-02-30", b"2026-03-16", b"9999-12-31",
    b"0001-01-01", b"9999-12-31T23:59:59-14:00", b"0001-01-01T00:00:00+14:00", b"2026-03-16T10:30:00Z",
    b"2026-03-16T10:30:00+99:99", b"2026-W12-1", b"Asia/Kolkata", b"../../etc/passwd", b"Etc", b"Asia/", b"\x00/..",
    b"complete", b"x" * 20_000, b"2099-01-01T00:00:00Z", b"1970-01-01T00:00:00.000000001Z",
]  # fmt: skip
_values = st.sampled_from(LIKELY) | st.binary(max_size=20)


@pytest.fixture
def reads(fuzzed: Fuzzed) -> list[tuple[str, list[str]]]:
    """Every call that reads, with the parameters that its query takes."""
    document = fuzzed.run(fuzzed.client.get("/openapi.json")).json()
    found = []
    for path, operations in document["paths"].items():
        if "get" in operations:
            declared = operations["get"].get("parameters", [])
            found.append(
                (path, [each["name"] for each in declared if each["in"] == "query" and each["name"] != "wait"])
            )
    assert sum(len(names) for _, names in found) > 40
    return found


@settings(EXAMPLES, max_examples=500)
@given(data=st.data())
def test_no_value_of_a_parameter_breaks_a_read(
    fuzzed: Fuzzed, reads: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    path, names = data.draw(st.sampled_from(reads))
    target = path
    while "{" in target:
        before, _, rest = target.partition("{")
        name, _, after = rest.partition("}")
        value = data.draw(st.just(KNOWN[name].encode()) if name in KNOWN else _values) or b"x"
        if name in KNOWN and data.draw(st.integers(0, 3)) == 0:
            value = data.draw(_values) or b"x"
        target = before + quote_from_bytes(value[:3000], safe="") + after
    chosen = data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) if names else []
    query = "&".join(f"{name}={quote_from_bytes(data.draw(_values), safe='')}" for name in chosen)
    check_answer(call(fuzzed, b"GET", f"{target}?{query}".encode()))


def test_no_likely_slip_in_any_parameter_breaks_a_read(fuzzed: Fuzzed, reads: list[tuple[str, list[str]]]) -> None:
    targets = []
    for path, names in reads:
        for name in (name for name in KNOWN if f"{{{name}}}" in path):
            targets += [path.replace(f"{{{name}}}", quote(value, safe="")) for value in LIKELY if 0 < len(value) < 6000]
        targets += [f"{path}?{name}={quote(value, safe='')}" for name in names for value in LIKELY]
    for name, value in {
        **KNOWN,
        "event_id": "x\0",
        "erasure_id": "1",
        "upload_id": "1",
        "name": "crm",
        "file": "x",
    }.items():
        targets = [target.replace(f"{{{name}}}", quote(value)) for target in targets]
    answers = fuzzed.exchange_all([make_call(b"GET", target.encode()) for target in targets])
    broken = {
        target: answer.status
        for target, answer in zip(targets, answers, strict=True)
        if answer.status >= 500 and b"retry-after" not in answer.head.lower()
    }
    assert broken == {}


@EXAMPLES
@given(
    target=st.sampled_from(CHANGES),
    kind=st.sampled_from(KINDS),
    body=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS), inner),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
@example(target=b"PUT /v1/feed/consumers/fuzz", kind=b"application/json", body=b'{"position": 1e400}')
@example(target=b"PUT /v1/feed/consumers/fuzz", kind=b"application/json", body=b'{"position": 9223372036854775808}')
@example(target=b"POST /v1/erasures", kind=b"application/json", body=b'{"phone": "\\ud800"}')
@example(target=b"POST /v1/erasures", kind=b"application/json", body=b'{"phone": "+91\\u0000"}')
@example(target=b"POST /v1/erasures", kind=b"application/json", body=b'{"a":' * 2500)
def test_no_body_breaks_a_change(fuzzed: Fuzzed, target: bytes, kind: bytes, body: bytes) -> None:
    method, _, path = target.partition(b" ")
    check_answer(call(fuzzed, method, path, (b"Content-Type", kind), body=body))


def call(fuzzed: Fuzzed, method: bytes, target: bytes, *headers: tuple[bytes, bytes], body: bytes = b"") -> Answer:
    return fuzzed.exchange(make_call(method, target, *headers, body=body))


def make_call(method: bytes, target: bytes, *headers: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    sent = ((b"Host", b"test"), (b"Connection", b"close"), (b"Authorization", f"Bearer {API_KEY}".encode()), *headers)
    length = ((b"Content-Length", b"%d" % len(body)),) if body or method != b"GET" else ()
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in (*sent, *length))]
    return b"\r\n".join([*lines, b"", body])


def check_answer(answer: Answer) -> None:
    """Refusals have the one shape; a busy service says how long to wait."""
    assert answer.status < 500 or b"retry-after" in answer.head.lower(), answer
    if answer.status >= 400 and b"application/json" in answer.head:
        error = json.loads(answer.body)["error"]
        assert set(error) == {"message", "type"}
