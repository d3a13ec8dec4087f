"""Placing events again that asks for itself again and again keeps no registration waiting, and is logged."""

from structlog.testing import capture_logs

from service.store.database import Database
from service.uploads.registration import MAX_ROUNDS, Registrar
from tests.factories import store_batch

# As events do that move to and fro: each job that ends leaves another one.
FOR_EVER = """
CREATE FUNCTION add_another() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO placement_jobs (batch_key, agent_id, since, scanned_at)
    VALUES (OLD.batch_key, OLD.agent_id, OLD.since, OLD.since);
    RETURN NULL;
END $$;
CREATE TRIGGER for_ever AFTER DELETE ON placement_jobs FOR EACH ROW EXECUTE FUNCTION add_another();
"""


async def test_placing_that_does_not_settle_is_logged_and_goes_on_in_the_next_pass(database: Database) -> None:
    await store_batch(database.url)
    await database.pool.execute(
        "INSERT INTO placement_jobs (batch_key, agent_id, since, scanned_at) "
        "SELECT batch_key, agent_id, '-infinity', '-infinity' FROM batches"
    )
    await database.pool.execute(FOR_EVER)
    with capture_logs() as lines:
        await Registrar(database).finish_all()
    assert [(line["event"], line["count"]) for line in lines] == [("placing_does_not_settle", MAX_ROUNDS)]
    await database.pool.execute("DROP TRIGGER for_ever ON placement_jobs")
    with capture_logs() as lines:
        await Registrar(database).finish_all()
    assert lines == []
    assert await database.pool.fetchval("SELECT count(*) FROM placement_jobs") == 0
