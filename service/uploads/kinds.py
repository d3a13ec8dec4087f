"""Kinds of files: a table as text, a workbook, or something else, which is refused by its name and with the remedy."""

import os
import zipfile
from pathlib import Path

from service.errors import InvalidRequestError

START_BYTES = 2**12
END_BYTES = 2**16 + 200
MAX_DIRECTORY_BYTES = 2**21
"""Of an archive's list of members: a workbook with 1,000 sheets has a tenth."""
FEW_CONTROLS = 30
"""Control characters that a cell may hold by mistake."""
_SAVE = "open it in a spreadsheet, and save it as CSV UTF-8 or as an Excel workbook (.xlsx)"
_UNPACK = "unpack it, and send the file in it"
_EXPORT = "export the contacts as CSV or as an Excel workbook (.xlsx)"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"%PDF-", "a PDF", _EXPORT),
    (b"\x89PNG\r\n", "an image", _EXPORT),
    (b"\xff\xd8\xff", "an image", _EXPORT),
    (b"GIF8", "an image", _EXPORT),
    (b"II*\x00", "an image", _EXPORT),
    (b"MM\x00*", "an image", _EXPORT),
    (b"{\\rtf", "a text document (RTF)", _EXPORT),
    (b"PAR1", "a Parquet file", _EXPORT),
    (b"SQLite format 3\x00", "an SQLite database", _EXPORT),
)
_TEXTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("begin:vcard",), "vCard, an address book", _EXPORT),
    (("begin:vcalendar",), "a calendar", _EXPORT),
    (("<!doctype html", "<html", "<head", "<body", "<table", "<meta", "<script", "<style"), "a web page", _SAVE),
    (("<?xml", "<!--", "<!doctype"), "XML", _SAVE),
)
_CONTROLS = frozenset(range(32)) - set(b"\t\n\x0b\x0c\r\x1a\x1b\x1c\x1d\x1e\x1f") - {0}


def is_workbook(path: Path) -> bool:
    """Whether a file is an Excel workbook (.xlsx, .xlsm), and not a table as text. Refuses every other kind."""
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        _refuse_archive(path)
        return True
    if start.startswith(_OLE):
        raise _refuse_old(path)
    for begins, kind, remedy in _STARTS:
        if start.startswith(begins):
            raise _refuse(kind, remedy)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        raise _refuse("an image", _EXPORT)
    _refuse_text(start)
    return False


def _refuse_text(start: bytes) -> None:
    """Refuses text that is no table, in any encoding, and what is no text."""
    text = start.replace(b"\x00", b"").decode("utf-8", "replace").lstrip("\ufeff\ufffd").lstrip().lower()
    for begins, kind, remedy in _TEXTS:
        if text.startswith(begins):
            if "excel.sheet" in text or "office:spreadsheet" in text:
                raise _refuse("an Excel workbook as XML", _SAVE)
            raise _refuse(kind, remedy)
    if text[:1] in {"{", "["} and text[1:].lstrip()[:1] in {'"', "{", "[", "}", "]"}:
        raise _refuse("JSON", _EXPORT)
    controls = sum(byte in _CONTROLS for byte in start)
    if controls > FEW_CONTROLS and controls * 10 > len(start):
        raise _refuse("binary, and no table", _EXPORT)


def _refuse_archive(path: Path) -> None:
    """Refuses a zip archive that is not an Excel workbook."""
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            kind = archive.read("mimetype")[:100] if archive.NameToInfo.get("mimetype") and _is_small(archive) else b""
    except (zipfile.BadZipFile, RuntimeError, OSError, ValueError, EOFError) as error:
        raise InvalidRequestError(
            "file: is a damaged workbook or zip archive, perhaps cut off on its way: save it again, and send it again"
        ) from error
    if "[Content_Types].xml" in names and any(name.lower() == "xl/workbook.xml" for name in names):
        return
    if kind.startswith(b"application/vnd.oasis.opendocument"):
        raise _refuse("an OpenDocument file (.ods)", _SAVE)
    if any(name.endswith(".iwa") or name == "Index.zip" for name in names):
        raise _refuse("an Apple Numbers file", "export it from Numbers as CSV (Unicode UTF-8) or Excel")
    if "xl/workbook.bin" in names:
        raise _refuse("a binary Excel workbook (.xlsb)", _SAVE)
    if any(name.startswith("word/") for name in names):
        raise _refuse("a Word document", _EXPORT)
    if any(name.startswith("ppt/") for name in names):
        raise _refuse("a presentation", _EXPORT)
    if "[Content_Types].xml" not in names:
        raise _refuse("a zip archive", _UNPACK)


def _check_directory(path: Path) -> None:
    """Refuses a list of members that would fill the memory, before the library reads it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END_BYTES))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    large = at - 76  # an end with longer numbers, and where it is
    if large >= 0 and tail[large : large + 4] == b"PK\x06\x06":
        length = int.from_bytes(tail[large + 40 : large + 48], "little")
    if at < 0 or length > MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile


def _is_small(archive: zipfile.ZipFile) -> bool:
    return archive.getinfo("mimetype").file_size < START_BYTES


def _refuse_old(path: Path) -> InvalidRequestError:
    """Old Excel workbooks, and encrypted new ones, which are wrapped in the same format."""
    with path.open("rb") as file:
        before = b""
        while chunk := file.read(2**20):
            if "EncryptedPackage".encode("utf-16-le") in before + chunk:
                return _refuse(
                    "an Excel workbook with a password",
                    "remove the password (File, Info, Protect Workbook), and save it again",
                )
            before = chunk[-64:]
    return _refuse("an old Excel workbook (.xls) or another Office file", _SAVE)


def _refuse(kind: str, remedy: str) -> InvalidRequestError:
    return InvalidRequestError(f"file: is {kind}, not CSV or an Excel workbook (.xlsx): {remedy}")
