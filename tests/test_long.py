"""``long.txt`` names tests that exist, so that a renamed one does not slip back among the short ones unseen."""

import ast

from tests.conftest import LONG


def test_every_line_names_a_file_or_one_of_its_tests() -> None:
    lines = LONG.read_text().splitlines()
    assert lines == sorted(set(lines))
    for line in lines:
        path, _, name = line.partition("::")
        tree = ast.parse((LONG.parents[1] / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert any(function.startswith("test_") for function in functions), line
        assert not name or name in functions, line
