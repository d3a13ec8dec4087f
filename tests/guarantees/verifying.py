"""The command that holds all figures against the facts."""

from service.formant.events import EventDecoder
from service.formant.targets import load_targets
from service.store.database import Database
from service.webhooks.signatures import BodyCheck
from service.webhooks.verification import Discrepancy, Verifier
from tests.conftest import SECRET


async def verify(database: Database) -> list[str]:
    """What is found to be wrong."""
    return [finding.what for finding in (await verify_all(database))[0]]


async def verify_all(database: Database, *secrets: str) -> tuple[list[Discrepancy], BodyCheck]:
    """All findings, and what could not be checked."""
    bodies = BodyCheck(load_targets(secrets or (SECRET,), allow_unsigned=False, path=None))
    found = [finding async for finding in Verifier(database, EventDecoder("outcome_ref"), bodies).verify()]
    return found, bodies
