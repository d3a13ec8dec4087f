"""Results in the languages of agents and people: counted, filtered, exported and met by goals like English ones."""

import csv
from collections import Counter

from service.sandbox import sample_contacts
from service.sandbox.languages import TRANSLATIONS, Language
from tests.conftest import StartService
from tests.provider import connect_provider, upload

LANGUAGES: tuple[Language, ...] = ("hi", "pt", "de")
PAYS = ["भुगतान का वादा", " PROMESSA de pagamento", "zahlung zugesagt"]


async def test_results_in_several_languages_are_counted_filtered_exported_and_met_by_goals(
    start_service: StartService,
) -> None:
    async with connect_provider(start_service, plays=True, options={"languages": LANGUAGES}) as (service, sandbox):
        await service.put("/v1/agents/123/goal", json={"results": {"intent": PAYS}})
        await upload(service, sample_contacts(120, seed=2))
        await sandbox.sandbox.wait_until_done(456)
        attempts = sandbox.sandbox.find_batch(456).attempts.values()
        said = Counter(
            sandbox.sandbox.writer.show_results(calls[-1])["intent"]
            for calls in attempts
            if calls[-1].status == "completed"
        )
        for language in LANGUAGES:
            assert said.keys() & set(TRANSLATIONS[language].values()), f"nobody speaks {language}"
        assert not said.keys() & set(TRANSLATIONS["hi"])

        shown = (await service.get("/v1/batch-calls/456/outcomes")).json()["data"]
        counted = shown["results"]["intent"]["values"]
        assert counted == said
        paying = {TRANSLATIONS[language]["promise_to_pay"] for language in LANGUAGES}
        assert shown["goal"]["met"] == sum(said[intent] for intent in paying) > 0
        for intent in paying & said.keys():
            rows = (await service.get("/v1/batch-calls/456/recipients", params={"result": f"intent:{intent}"})).json()[
                "data"
            ]
            assert len(rows) == said[intent]
            assert {row["goal_met"] for row in rows} == {True}
        table = list(csv.DictReader((await service.get("/v1/batch-calls/456/recipients.csv")).text.splitlines()))
        assert sum(row["goal_met"] == "true" for row in table) == shown["goal"]["met"]
        assert all(any(intent in row["results"] for row in table) for intent in said if '"' not in intent)
