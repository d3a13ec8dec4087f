"""How a file's columns differ from those that bind its agent's files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.uploads.columns import compare_columns

BINDING = ["customer_phone", "customer_name", "loan_id", "due_amount"]


def test_the_same_columns_in_another_order_do_not_differ() -> None:
    assert not compare_columns(BINDING, BINDING[::-1])


@pytest.mark.parametrize("found", ["Loan_ID", "loan id", "LoanId", "loan-id", "loan_ids", "lone_id"])
def test_a_column_under_nearly_its_name_is_recognised(found: str) -> None:
    difference = compare_columns(BINDING, ["customer_phone", "customer_name", found, "due_amount"])
    assert (difference.renamed, difference.missing, difference.added) == ({found: "loan_id"}, [], [])
    assert difference.describe() == f"{found!r}: did you mean 'loan_id'?"


def test_a_missing_and_a_new_column_are_told() -> None:
    difference = compare_columns(BINDING, ["customer_phone", "customer_name", "loan_id", "city"])
    assert difference.describe() == "'due_amount' is missing; 'city' is new"


def test_two_columns_that_come_near_to_one_are_not_both_taken_for_it() -> None:
    difference = compare_columns(["customer_phone", "loan_id"], ["customer_phone", "Loan_ID", "loan-id"])
    assert (difference.renamed, difference.missing, difference.added) == ({"Loan_ID": "loan_id"}, [], ["loan-id"])


@given(st.lists(st.text(max_size=12), unique=True), st.lists(st.text(max_size=12), unique=True))
def test_every_difference_is_told_once(binding: list[str], columns: list[str]) -> None:
    difference = compare_columns(binding, columns)
    assert sorted([*difference.renamed.values(), *difference.missing]) == sorted(set(binding) - set(columns))
    assert sorted([*difference.renamed, *difference.added]) == sorted(set(columns) - set(binding))
    assert bool(difference) == (set(binding) != set(columns))
