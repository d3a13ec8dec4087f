"""A table of discrepancies, as ``outcomes verify`` and ``reattribute`` print them."""

from rich.table import Table

from service.webhooks.verification import Discrepancy

LISTED = 100


def make_table(findings: list[Discrepancy], stored: str, expected: str) -> Table:
    table = Table("upload", "what", "key", stored, expected)
    for finding in findings:
        table.add_row("" if finding.batch_key is None else str(finding.batch_key), *finding[1:5])
    return table
