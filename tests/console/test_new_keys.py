"""A key that was made a moment ago signs in at once, though the keys are read in intervals."""

import asyncio

from service.access.auth import KeyRing
from service.access.keys import Keys, digest_key
from service.store.database import Database
from tests.conftest import StartService
from tests.console.visiting import Visitor, sign_in


async def test_a_new_key_signs_in_at_once(start_service: StartService, database: Database) -> None:
    async with start_service() as service:
        for name in ("first", "second"):
            key = (await Keys(database).create(name, ("read",), None)).key
            assert (await (await sign_in(service, key)).get("/console")).status_code == 200
        answer = await Visitor(service.base_url).request("POST", "/console/sign-in", data={"key": "outcomes_wrong"})
        assert answer.status_code == 401


async def test_unknown_keys_that_come_together_cost_one_reading(database: Database) -> None:
    ring = KeyRing(database, "")
    await ring.refresh()
    readings = 0
    refresh = ring.refresh

    async def count() -> None:
        nonlocal readings
        readings += 1
        await refresh()

    ring.refresh = count  # type: ignore[method-assign]
    made = digest_key((await Keys(database).create("late", ("read",), None)).key)
    found = await asyncio.gather(*(ring.verify_new(digest) for digest in [made, *[digest_key("x")] * 20]))
    assert [each is not None for each in found] == [True, *[False] * 20]
    assert readings == 1
    assert await ring.verify_new(made)
    assert readings == 1, "a known key costs none"
