"""Webhooks of the last hour by answer, of all replicas."""

from service.store.database import Database
from tests.conftest import StartService
from tests.factories import make_payload, post_webhook, store_batch


async def test_replicas_add_their_answers_and_what_is_older_than_an_hour_is_left_out(
    start_service: StartService, database: Database
) -> None:
    await store_batch(database.url)
    async with start_service() as one, start_service() as other:
        for service, recipient in ((one, 1), (other, 2), (other, 3)):
            assert (await post_webhook(service, make_payload(recipient=recipient))).status_code == 204
        assert (await post_webhook(other, make_payload(), secret="wrong")).status_code == 401
        assert (await post_webhook(one, make_payload(), path="/webhooks/formant/nowhere")).status_code == 404
        await other.get("/v1/webhooks/summary")
        summary = (await one.get("/v1/webhooks/summary")).json()["data"]
        counts = {(row["target"], row["answer"]): row["requests"] for row in summary["counts"]}
        assert counts == {
            ("default", "stored"): 3,
            ("default", "authentication_error"): 1,
            ("unknown", "not_found"): 1,
        }
        assert summary["total"] == 5
        assert (await one.get("/v1/webhooks/summary")).json()["data"]["counts"] == summary["counts"], "counted once"
        await database.pool.execute("UPDATE webhook_answers SET minute = minute - interval '61 minutes'")
        assert (await one.get("/v1/webhooks/summary")).json()["data"]["counts"] == []
