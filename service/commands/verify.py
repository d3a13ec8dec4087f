"""``outcomes verify``: recounts outcomes and counters from the stored events."""

import json
import sys
from collections.abc import AsyncIterator

from rich.console import Console

from service.commands.discrepancies import LISTED, make_table
from service.commands.rows import show_rows
from service.commands.startup import read_targets, run_on_database, start
from service.counts import count
from service.formant.targets import load_kinds
from service.settings import Settings
from service.store.database import Database
from service.webhooks.decoding import open_decoder
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Discrepancy, Verifier
from service.webhooks.verification_runs import VerificationRun


def verify(batch_id: int | None, *, is_full: bool, as_json: bool) -> None:
    """Prints where outcomes and counters differ from the facts; exits with 1 if they do."""
    settings = start()
    found = run_on_database(settings, lambda database: _verify(settings, database, batch_id, is_full, as_json))
    sys.exit(1 if found else 0)


async def _verify(settings: Settings, database: Database, batch_id: int | None, is_full: bool, as_json: bool) -> int:
    with show_rows("Verified") as report:
        # Without secrets signatures are counted as unchecked, and everything else is verified.
        targets, regions = read_targets(settings)
        bodies = BodyCheck(targets)
        decoder = await open_decoder(database, settings.ref_column, regions, load_kinds(settings.targets_file, regions))
        verifier = Verifier(database, decoder, bodies, report)
        if batch_id is not None:
            return await _print_findings(verifier.verify(batch_id), bodies, as_json=as_json)
        run = VerificationRun(database, verifier, is_full=is_full)
        found = await _print_findings(run.verify(), bodies, as_json=as_json)
    if not as_json:
        rest = "everything else" if is_full else "a sample of everything else (everything: outcomes verify --full)"
        Console().print(f"Verified {count(len(run.batches), 'batch', 'batches')} and {rest}", soft_wrap=True)
    return found


async def _print_findings(findings: AsyncIterator[Discrepancy], bodies: BodyCheck, *, as_json: bool) -> int:
    """Prints the first ``LISTED`` findings, and what could not be checked; returns the number of differences without
    those that the service is about to resolve itself."""
    found, pending = 0, 0
    differing: list[Discrepancy] = []
    waiting: list[Discrepancy] = []
    async for finding in findings:
        found += not finding.is_pending
        pending += finding.is_pending
        kept = waiting if finding.is_pending else differing
        if len(kept) < LISTED:
            kept.append(finding)
    listed = (differing + waiting)[:LISTED]
    if as_json:
        report = {
            "count": found,
            "pending": pending,
            "findings": [finding._asdict() for finding in listed],
            "unsigned_bodies": bodies.unsigned,
            "unchecked_signatures": bodies.unchecked,
        }
        print(json.dumps(report))  # noqa: T201
        return found
    console = Console()
    if listed:
        console.print(make_table(listed, "stored", "should be"))
    console.print(count(found, "difference") + (f", the first {LISTED} are shown" if found > LISTED else ""))
    if pending:
        console.print(f"To be attributed: {count(pending, 'event')}; run this again when the service has done it")
    if bodies.unsigned:
        without = count(bodies.unsigned, "webhook")
        console.print(f"Without a signature: {without}, unsigned or from before signatures were kept", soft_wrap=True)
    if bodies.unchecked:
        unchecked = count(bodies.unchecked, "signature")
        console.print(f"Not checked: {unchecked}, since no secret of their target is configured here", soft_wrap=True)
    return found
