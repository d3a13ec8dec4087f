"""The demo shows one batch from its CSV to its last figure, as often as somebody runs it."""

from tests.http.processes import OUTCOMES, run
from tests.http.provider import find_free_port


async def test_the_demo_runs_again_on_the_database_of_the_first_time_and_every_figure_agrees(database_url: str) -> None:
    for _ in range(2):
        done = await run(
            OUTCOMES, "demo", "--exit", "--recipients", "60", "--drop", "0.3",
            OUTCOMES_DATABASE_URL=database_url, OUTCOMES_PORT=str(find_free_port()),
        )  # fmt: skip
        assert done.status == 0, done.errors
        assert "Every figure agrees." in done.output
