"""``long.txt`` names tests that exist, so that a renamed one does not slip back among the short ones unseen."""

import re

from tests.conftest import LONG


def test_every_line_names_a_file_or_one_of_its_tests() -> None:
    lines = LONG.read_text().splitlines()
    assert lines == sorted(set(lines))
    for line in lines:
        path, _, name = line.partition("::")
        functions = re.findall(r"^(?:async )?def (test_\w+)", (LONG.parents[1] / path).read_text(), re.MULTILINE)
        assert name in functions if name else functions, line
