"""How the file of an export is written: the parameters that all exports share."""

from typing import NamedTuple, get_args

from starlette.requests import Request

from service.errors import InvalidRequestError
from service.exports.formats import MEDIA_TYPES, TABLES, Format
from service.web.operations import Answer
from service.web.parameters import Choice, Flag, PathChoice
from service.web.times import TimeZone

FORMATS: tuple[Format, ...] = get_args(Format)
FORMAT = PathChoice("format", "export format", "The format of the file", FORMATS)
FORMULAS = Choice(
    "formulas", "In CSV: `escape` cells that a spreadsheet would run as formulas (the default), or `keep` them",
    ("escape", "keep"), default=None,
)  # fmt: skip
RESULTS = Choice(
    "results", "In CSV and XLSX: `columns` for a column `results.NAME` for each result, and for each parameter whose "
    "name is known; `json` (the default) for one column with all results",
    ("columns", "json"), default=None,
)  # fmt: skip
BOM = Flag("bom", "In CSV: whether to begin with a byte order mark, by which Excel recognises UTF-8")
OPTIONS = (FORMULAS, RESULTS, BOM)
TIME_ZONE = "time_zone"
TIME_ZONE_TEXT = "Time zone of days, and if given also of the times in the file (UTC in Parquet): an IANA name"
AS_OF_HEADER = ("X-Outcomes-As-Of", "Everything committed until then is in the file, and nothing later")


class Options(NamedTuple):
    """How a file is written."""

    escapes_formulas: bool
    has_result_columns: bool
    has_mark: bool
    time_zone: str


def declare_answers(*headers: tuple[str, str]) -> tuple[Answer, ...]:
    """A file in each format, with these headers."""
    text = "The file. One that cannot be finished ends without HTTP's last chunk"
    return tuple(Answer(str, text, media_type=kind.partition(";")[0], headers=headers) for kind in MEDIA_TYPES.values())


def read_options(request: Request, zone: TimeZone) -> Options:
    """How to write the file. Raises InvalidRequestError for an option of another format."""
    file_format = FORMAT.read(request)
    has_zone = zone.name in request.query_params and file_format != "parquet"
    has_result_columns, has_mark = RESULTS.read(request) == "columns", BOM.read(request)
    if FORMULAS.name in request.query_params and file_format != "csv":
        raise InvalidRequestError("formulas: is only for csv; the other formats keep every text unchanged")
    if has_result_columns and file_format not in TABLES:
        raise InvalidRequestError("results: columns are only for csv and xlsx; the other formats keep results together")
    if has_mark and file_format != "csv":
        raise InvalidRequestError("bom: is only for csv; the other formats need no mark")
    return Options(
        FORMULAS.read(request) != "keep" and file_format == "csv",
        has_result_columns,
        has_mark,
        zone.read(request) if has_zone else "UTC",
    )
