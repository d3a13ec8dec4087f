"""The doctor asks each server of the spill, and whether the stream keeps what it takes."""

from nats.js.api import StreamConfig

from service.doctor.findings import Level
from service.spill.stream import STREAM
from tests.doctor.examining import examine, find, find_one
from tests.eventually import eventually
from tests.nats import run_nats

CHECK = "spill.servers"


async def test_without_a_spill_it_says_so() -> None:
    assert "refused while Postgres is away" in find_one(await examine(None), CHECK, Level.OK).message


async def test_servers_that_answer_and_write_first_are_ok_and_no_stream_is_created() -> None:
    async with run_nats() as cluster:
        findings = find(await examine(None, OUTCOMES_SPILL_URL=cluster.url), CHECK)
        assert [finding.level for finding in findings] == [Level.OK, Level.OK]
        async with cluster.connect() as client:
            assert await client.jetstream().streams_info() == []


async def test_a_server_that_does_not_answer_is_a_warning_and_a_lost_majority_a_problem() -> None:
    async with run_nats(3) as cluster:
        first, second, _ = cluster.servers
        first.kill()
        # JetStream answers once the others have elected a leader.
        findings = await eventually(
            lambda: examine(None, OUTCOMES_SPILL_URL=cluster.url),
            lambda found: Level.PROBLEM not in {each.level for each in find(found, CHECK)},
        )
        address = first.url.rpartition("@")[2]
        assert f"{address} does not answer" in find_one(findings, CHECK, Level.WARNING).message
        assert find_one(findings, CHECK, Level.OK)
        second.kill()
        findings = await examine(None, OUTCOMES_SPILL_URL=cluster.url)
        assert address in next(each for each in find(findings, CHECK) if each.level is Level.PROBLEM).message


async def test_a_wrong_password_is_named_and_not_shown() -> None:
    async with run_nats() as cluster:
        findings = await examine(None, OUTCOMES_SPILL_URL=cluster.url.replace("secret", "not-the-password"))
    assert "refuses the user or the password" in find_one(findings, CHECK, Level.PROBLEM).message
    assert "not-the-password" not in str(findings)


async def test_settings_that_may_lose_webhooks_are_a_problem_or_where_they_are_accepted_a_warning() -> None:
    async with run_nats(sync="2m") as cluster:
        refused = find_one(await examine(None, OUTCOMES_SPILL_URL=cluster.url), CHECK, Level.PROBLEM)
        assert "n1 acknowledges before it writes to disk" in refused.remedy
        findings = await examine(None, OUTCOMES_SPILL_URL=cluster.url, OUTCOMES_ALLOW_UNSAFE_SPILL="1")
        assert "n1 acknowledges before it writes to disk" in find_one(findings, CHECK, Level.WARNING).message


async def test_a_stream_that_may_lose_webhooks_is_a_problem() -> None:
    async with run_nats() as cluster:
        async with cluster.connect() as client:
            await client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=["outcomes.spill.*"], max_age=60.0))
        found = find_one(await examine(None, OUTCOMES_SPILL_URL=cluster.url), CHECK, Level.PROBLEM)
        assert "no max_age" in found.remedy
