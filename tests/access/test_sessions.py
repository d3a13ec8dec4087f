"""Sessions of the console: who has one, what it allows, and when it ends."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.access import sessions as module
from service.access.auth import TRUSTED_SECONDS, KeyRing
from service.access.keys import Keys, digest_key
from service.access.sessions import Session, Sessions
from service.errors import AuthenticationError, NotFoundError, UnavailableError
from service.store.database import Database
from service.telemetry.context import SETTING, Actor
from service.web.scopes import SCOPES
from tests.conftest import API_KEY

ISSUER = "https://sso.example.com"
IDLE_SECONDS = 1800
ABSOLUTE_SECONDS = 7200


class World:
    """A replica whose clocks the test moves."""

    def __init__(self, database: Database, api_key: str = API_KEY) -> None:
        self.seconds = 0.0
        self.database = database
        self.keys = KeyRing(database, api_key, clock=lambda: self.seconds, now=self.now)
        self.sessions = self.open_sessions()

    def open_sessions(self, issuer: str = ISSUER) -> Sessions:
        return Sessions(
            self.database,
            self.keys,
            idle_seconds=IDLE_SECONDS,
            absolute_seconds=ABSOLUTE_SECONDS,
            issuer=issuer,
            clock=lambda: self.seconds,
            now=self.now,
        )

    def now(self) -> datetime:
        return datetime(2026, 3, 16, 9, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def pass_time(self, seconds: float) -> None:
        """Moves the clocks, and does what the background does meanwhile."""
        self.seconds += seconds
        await self.keys.refresh()
        await self.sessions.refresh()
        await self.sessions.note_uses()


@pytest.fixture
async def world(database: Database) -> World:
    made = World(database)
    await made.keys.refresh()
    return made


async def open_with(world: World, key: str = API_KEY) -> tuple[str, Session]:
    opened = await world.sessions.open_with_key(key)
    assert opened is not None
    return opened


class Counted:
    """A database that counts the uses of its pool."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        found = database.queries.find_sessions

        def find_sessions(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            return found(*arguments, **named)

        monkeypatch.setattr(database.queries, "find_sessions", find_sessions)


@pytest.fixture
def reads(world: World, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(world.database, monkeypatch)


async def test_a_session_of_a_key_has_its_actor_and_scopes(world: World) -> None:
    made = await Keys(world.database).create("dashboard", ("read", "feed"), None)
    await world.keys.refresh()
    token, session = await open_with(world, made.key)
    assert session.actor == Actor("key: dashboard", made.row["key_id"])
    assert set(session.scopes) == {"read", "feed"}
    assert session.name == "Key dashboard"
    assert session.expires_at == world.now() + timedelta(seconds=ABSOLUTE_SECONDS)
    assert await world.sessions.find(token) == session


async def test_a_session_of_the_configured_key_has_every_scope(world: World) -> None:
    _, session = await open_with(world)
    assert (session.actor, session.scopes) == (SETTING, SCOPES)


async def test_a_wrong_key_opens_nothing(world: World) -> None:
    assert await world.sessions.open_with_key("another") is None
    assert await world.database.pool.fetchval("SELECT count(*) FROM console_sessions") == 0


async def test_a_session_of_a_person_has_the_scopes_given_at_sign_in_and_no_name_in_the_log(world: World) -> None:
    token, session = await world.sessions.open_with_identity(ISSUER, "s-1", "Asha Rao", ("read",))
    user_id = await world.database.pool.fetchval("SELECT user_id FROM console_users")
    assert session.actor == Actor(f"user: {user_id}")
    assert (session.scopes, session.name) == (("read",), "Asha Rao")
    assert await world.sessions.find(token) == session
    lines = await world.database.pool.fetch("SELECT actor, action, subject, details::text FROM audit_log")
    assert [(line["actor"], line["action"], line["subject"]) for line in lines] == [
        (f"user: {user_id}", "signed_in", f"session {session.session_id}")
    ]
    assert "Asha" not in str(lines)


async def test_a_person_keeps_one_id_and_the_latest_name(world: World) -> None:
    _, first = await world.sessions.open_with_identity(ISSUER, "s-1", "Asha Rao", ("read",))
    _, second = await world.sessions.open_with_identity(ISSUER, "s-1", "Asha Rao-Sen", ("read",))
    _, other = await world.sessions.open_with_identity(ISSUER, "s-2", "Asha Rao", ("read",))
    assert first.actor == second.actor != other.actor
    names = {each.session_id: each.name for each in (await world.sessions.list_sessions())[0]}
    assert names[first.session_id] == names[second.session_id] == "Asha Rao-Sen"


async def test_the_database_holds_neither_token_nor_key(world: World) -> None:
    token, session = await open_with(world)
    row = str(await world.database.pool.fetchrow("SELECT * FROM console_sessions"))
    assert token not in row
    assert API_KEY not in row
    assert session.csrf_token not in row
    assert await world.database.pool.fetchval("SELECT token_digest FROM console_sessions") == digest_key(token)


async def test_each_session_has_another_token_and_another_csrf_token(world: World) -> None:
    opened = [await open_with(world) for _ in range(3)]
    assert len({token for token, _ in opened} | {session.csrf_token for _, session in opened}) == 6


@pytest.mark.parametrize("token", ["", "unknown", "x" * 101, "é\u2028"])
async def test_an_unknown_token_finds_nothing(world: World, token: str) -> None:
    assert await world.sessions.find(token) is None


async def test_a_session_ends_after_idle_time_and_use_prolongs_it(world: World) -> None:
    token, _ = await open_with(world)
    for _ in range(3):
        await world.pass_time(IDLE_SECONDS - 1)
        assert await world.sessions.find(token) is not None
    await world.pass_time(IDLE_SECONDS)
    assert await world.sessions.find(token) is None


async def test_polling_does_not_keep_a_session_alive(world: World) -> None:
    token, _ = await open_with(world)
    for _ in range(IDLE_SECONDS // 60 - 1):
        await world.pass_time(60)
        assert await world.sessions.find(token, is_active=False) is not None
    await world.pass_time(60)
    assert await world.sessions.find(token, is_active=False) is None


async def test_a_session_ends_at_its_absolute_end_however_much_it_is_used(world: World) -> None:
    token, _ = await open_with(world)
    for _ in range(ABSOLUTE_SECONDS // 600 - 1):
        await world.pass_time(600)
        assert await world.sessions.find(token) is not None
    await world.pass_time(599)
    assert await world.sessions.find(token) is not None
    world.seconds += 1
    assert await world.sessions.find(token) is None


async def test_a_session_ends_with_its_key(world: World) -> None:
    made = await Keys(world.database).create("dashboard", ("read",), None)
    await world.keys.refresh()
    token, _ = await open_with(world, made.key)
    await Keys(world.database).revoke("dashboard")
    await world.keys.refresh()
    assert await world.sessions.find(token) is None
    assert await world.sessions.list_sessions() == ([], None)


async def test_a_session_ends_when_its_key_expires(world: World) -> None:
    made = await Keys(world.database).create("short", ("read",), None)
    await world.database.pool.execute("UPDATE api_keys SET expires_at = now() + interval '1 hour'")
    expires_at = await world.database.pool.fetchval("SELECT expires_at FROM api_keys")
    await world.keys.refresh()
    world.seconds += (expires_at - world.now()).total_seconds() - 1
    await world.keys.refresh()
    token, _ = await open_with(world, made.key)
    assert await world.sessions.find(token) is not None
    world.seconds += 1
    assert await world.sessions.find(token) is None


async def test_a_changed_setting_ends_the_sessions_of_the_configured_key(world: World) -> None:
    token, _ = await open_with(world)
    changed = World(world.database, "another-key")
    await changed.keys.refresh()
    assert await changed.sessions.find(token) is None


async def test_another_provider_in_the_settings_signs_out_those_of_the_one_before(world: World) -> None:
    token, _ = await world.sessions.open_with_identity(ISSUER, "s-1", "Asha Rao", ("read",))
    assert await world.open_sessions().find(token) is not None
    for issuer in ("", "https://other.example.com"):
        assert await world.open_sessions(issuer).find(token) is None


async def test_a_session_holds_on_every_replica_and_after_a_restart(world: World) -> None:
    token, session = await open_with(world)
    assert await world.open_sessions().find(token) == session


async def test_a_session_that_is_closed_ends_here_at_once_and_elsewhere_with_the_next_reading(world: World) -> None:
    token, _ = await open_with(world)
    elsewhere = world.open_sessions()
    assert await elsewhere.find(token) is not None
    await world.sessions.close(token)
    assert await world.sessions.find(token) is None
    await elsewhere.refresh()
    assert await elsewhere.find(token) is None
    actions = [row["action"] for row in await world.database.pool.fetch("SELECT action FROM audit_log ORDER BY 1")]
    assert actions == ["signed_in", "signed_out"]


async def test_an_admin_sees_and_revokes_sessions(world: World) -> None:
    token, first = await open_with(world)
    other_token, other = await world.sessions.open_with_identity(ISSUER, "s-1", "Asha Rao", ("read",))
    assert await world.sessions.find(token) is not None
    listed, _ = await world.sessions.list_sessions()
    assert [each.session_id for each in listed] == [other.session_id, first.session_id]
    assert [(each.name, each.scopes) for each in listed] == [
        ("Asha Rao", ("read",)),
        ("The key in OUTCOMES_API_KEY", SCOPES),
    ]
    await world.sessions.revoke_session(first.session_id)
    assert await world.sessions.find(token) is None
    assert await world.sessions.find(other_token) is not None
    with pytest.raises(NotFoundError, match=f"session {first.session_id}"):
        await world.sessions.revoke_session(first.session_id)
    assert await world.database.pool.fetchval("SELECT count(*) FROM audit_log WHERE action = 'session_revoked'") == 1


async def test_a_session_that_is_over_is_not_listed(world: World) -> None:
    await open_with(world)
    await world.pass_time(IDLE_SECONDS)
    assert await world.sessions.list_sessions() == ([], None)


async def test_a_sign_in_opens_one_session_even_after_that_was_closed(world: World) -> None:
    token, _ = await world.sessions.open_with_identity(ISSUER, "s-1", "Asha", ("read",), sign_in_digest=b"once")
    await world.sessions.close(token)
    with pytest.raises(AuthenticationError, match="used before"):
        await world.sessions.open_with_identity(ISSUER, "s-1", "Asha", ("read",), sign_in_digest=b"once")


async def test_many_viewers_cost_one_statement_for_each_reading(world: World, reads: Counted) -> None:
    tokens = [(await open_with(world))[0] for _ in range(200)]
    for token in tokens:
        assert await world.sessions.find(token) is not None
    assert reads.count == 200
    for _ in range(10):
        await world.pass_time(module.REFRESH_SECONDS)
        for token in tokens:
            assert await world.sessions.find(token, is_active=False) is not None
    assert reads.count == 210


async def test_requests_at_the_same_time_look_a_session_up_at_most_twice(world: World, reads: Counted) -> None:
    token, session = await open_with(world)
    assert await asyncio.gather(*(world.sessions.find(token) for _ in range(50))) == [session] * 50
    assert reads.count <= module.LOOKUPS


async def test_a_session_that_nobody_uses_is_not_read_again(world: World, reads: Counted) -> None:
    token, _ = await open_with(world)
    await world.sessions.find(token)
    await world.pass_time(module.KEPT_SECONDS + 1)
    before = reads.count
    await world.pass_time(module.REFRESH_SECONDS)
    assert reads.count == before


async def test_the_memory_for_sessions_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    tokens = [(await open_with(world))[0] for _ in range(5)]
    for token in tokens:
        assert await world.sessions.find(token) is not None
    assert len(world.sessions._kept) == 3


async def test_the_last_use_is_recorded_at_most_once_a_minute(world: World) -> None:
    token, _ = await open_with(world)
    noted = []
    for seconds in (10, 49, 1, 30, 31):
        await world.pass_time(seconds)
        before = await world.database.pool.fetchval("SELECT last_seen_at FROM console_sessions")
        assert await world.sessions.find(token) is not None
        await world.sessions.note_uses()
        noted.append(await world.database.pool.fetchval("SELECT last_seen_at FROM console_sessions") != before)
    assert noted == [False, False, True, False, True]


async def test_expired_sessions_are_deleted_in_bounded_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGOTTEN_ROWS", 2)
    for _ in range(3):
        await open_with(world)
    counts = []
    for seconds in (0, ABSOLUTE_SECONDS, 1, module.FORGET_SECONDS):
        world.seconds += seconds
        await world.sessions.forget()
        counts.append(await world.database.pool.fetchval("SELECT count(*) FROM console_sessions"))
    assert counts == [3, 1, 1, 0]


async def test_while_stored_keys_cannot_be_checked_their_sessions_are_put_off(world: World) -> None:
    made = await Keys(world.database).create("dashboard", ("read",), None)
    await world.keys.refresh()
    token, _ = await open_with(world, made.key)
    own, _ = await open_with(world)
    world.seconds += TRUSTED_SECONDS + 1
    assert await world.sessions.find(own) is not None
    with pytest.raises(UnavailableError):
        await world.sessions.find(token)
    with pytest.raises(UnavailableError):
        await world.sessions.open_with_key(made.key)


async def test_a_session_that_cannot_be_read_again_is_trusted_for_seconds_only(world: World) -> None:
    token, _ = await open_with(world)
    assert await world.sessions.find(token) is not None
    await world.database.pool.execute("ALTER TABLE console_sessions RENAME TO gone")  # reading sessions now fails
    world.seconds += module.TRUSTED_SECONDS
    assert await world.sessions.find(token) is not None
    world.seconds += 1
    with pytest.raises(asyncpg.UndefinedTableError):
        await world.sessions.find(token)
