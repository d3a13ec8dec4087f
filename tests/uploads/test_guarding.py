"""Rows that are given back hold no formula that a spreadsheet runs, and come back as they were."""

import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.uploads.guarding import guard, unguard
from service.uploads.report import ContactsOptions
from tests.conftest import StartService
from tests.provider import connect_provider, upload
from tests.uploads.checked import check

FORMULAS = ("\t", "\n", "\r", "+", "-", "=", "@", "＋", "－", "＝", "＠")
CELLS = st.text(st.sampled_from(["'", *FORMULAS, "1", ".", "a", " "]), max_size=8) | st.text(max_size=20)


@given(CELLS)
@example("'=1")
@example("'+919876543210")
def test_a_guarded_cell_begins_no_formula_and_is_read_as_it_was(cell: str) -> None:
    guarded = guard(cell)
    assert unguard(guarded) == cell
    assert guarded in {cell, f"'{cell}"}
    number = guarded[:1] in "+-" and guarded[1:].replace(".", "", 1).isdecimal()
    assert number or not guarded.startswith(FORMULAS)


@pytest.mark.parametrize("cell", ["+919876543210", "-1.5", "Asha", "", "98765"])
def test_a_phone_or_a_word_stays_as_it_is(cell: str) -> None:
    assert guard(cell) == cell


async def test_sql_and_python_guard_the_same_cells(start_service: StartService) -> None:
    async with connect_provider(start_service) as (service, _):
        cells = ['=HYPERLINK("http://x")', "@SUM(1)", "+1+1", "-2", "'=already"]
        rows = "".join(f'"{cell.replace(chr(34), chr(34) * 2)}",12,"{cell[0]}x"\n' for cell in cells)
        content = f"=name,customer_phone,note\n{rows}Asha,+919876543210,\n"
        made = (await upload(service, content, invalid="skip")).json()["data"]
        path = f"/v1/uploads/{made['upload_id']}/rejected.csv"
        text = (await service.get(path)).content.decode("utf-8-sig")
        header, *given = csv.reader(io.StringIO(text, newline=""))
        assert header[0] == "'=name"
        assert [row[0] for row in given] == [f"'{cells[0]}", "'@SUM(1)", "'+1+1", "-2", "''=already"]
        corrected = text.replace(",12,", ",+91987654321{},")
        for number in range(5):
            corrected = corrected.replace("{}", str(number + 1), 1)
        report, contacts, _ = check(corrected.encode(), ContactsOptions(drops_errors=True))
        assert [json.loads(one.parameters)["=name"] for one in contacts] == cells
        assert report.names[0] == "=name"


def test_a_file_without_our_column_keeps_its_quotes() -> None:
    _, contacts, _ = check(b"name,customer_phone\n'=1,+919876543210\n", ContactsOptions(drops_errors=True))
    assert json.loads(contacts[0].parameters) == {"name": "'=1"}
