"""CRMs that behave as badly as a random generator likes, and know what they accepted: witnesses against the job."""

import random
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.crm.generic_server import LocalCrm
from tests.crm.hubspot_server import LocalHubSpot, cut_off, problem

BUSY = (408, 423, 429, 477, 500, 502, 503)


@dataclass
class Witness:
    """What a CRM did, by key. ``confirmed`` was accepted and named as such in an answer that went out whole."""

    accepted: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    named_twice: set[str] = field(default_factory=set)


class Whims:
    """Decides what becomes of each batch. ``badness`` 0: all is well."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.badness = self.random.choice([0.2, 0.5, 0.8])
        self.witness = Witness()
        self.outage = 0

    def is_bad(self) -> bool:
        return self.random.random() < self.badness

    def pick(self, keys: list[str]) -> list[str]:
        """Some of them, in any order."""
        return self.random.sample(keys, self.random.randint(0, len(keys)))

    def fail(self, keys: list[str]) -> Response | None:
        """An answer that confirms nobody, whether some were accepted or not; None: a better one is to be given."""
        self.outage -= 1
        if self.is_bad() and self.random.random() < 0.2:
            self.outage = 10  # longer than a job that is to end goes on trying
        if self.outage < 0 and (not self.is_bad() or self.random.random() < 0.4):
            return None
        if self.random.random() < 0.3:
            self.witness.accepted.update(self.pick(keys))
        headers = {"retry-after": self.random.choice(["0", "1", "soon"])} if self.random.random() < 0.5 else {}
        match self.random.randrange(4):
            case 0:
                return cut_off()
            case 1:
                return problem(self.random.choice([400, 409, 422]), "no, thanks", headers=headers)
            case 2:
                return Response("<html>Bad gateway</html>", 502, headers)
        return problem(self.random.choice(BUSY), "later", headers=headers)

    def settle(self, keys: list[str]) -> tuple[list[str], list[str]]:
        """Accepts some. Gives the keys that the answer names as accepted (one twice, perhaps), and those it refuses."""
        accepted = self.pick(keys) if self.is_bad() else keys
        named = self.pick(accepted) if self.is_bad() else self.random.sample(accepted, len(accepted))
        left = [key for key in keys if key not in accepted]
        refused = self.pick(left) if self.is_bad() else left
        self.witness.accepted.update(accepted)
        self.witness.named_twice |= self.witness.confirmed & set(named)
        self.witness.confirmed.update(named)
        return named + (named[:1] if self.is_bad() else []), refused


class WhimsicalHubSpot(LocalHubSpot):
    """A HubSpot that names inputs by trace or by property, and now and then somebody whom it was never sent."""

    def __init__(self, whims: Whims) -> None:
        super().__init__()
        self.whims = whims

    def _upsert(self, inputs: list[dict[str, Any]]) -> Response:
        keys = [each["id"] for each in inputs]
        if failure := self.whims.fail(keys):
            return failure
        traces = {each["id"]: each["objectWriteTraceId"] for each in inputs}
        named, refused = self.whims.settle(keys)
        results = [
            {"id": f"object of {key}"}
            | (
                {"objectWriteTraceId": traces[key]}
                if self.whims.random.random() < 0.5
                else {"properties": {"loan_id": key}}
            )
            for key in named
        ]
        if self.whims.is_bad():
            results.append({"id": "stranger", "objectWriteTraceId": "999"})
        errors = [
            {"message": "no", "context": {"objectWriteTraceId": [traces[key]]} if not self.whims.is_bad() else {}}
            for key in refused
        ]
        content = {"status": "COMPLETE", "results": results, "errors": errors, "numErrors": len(errors)}
        return JSONResponse(content, 207 if errors else 200)


class WhimsicalCrm(LocalCrm):
    """An endpoint that names single records."""

    def __init__(self, whims: Whims) -> None:
        super().__init__()
        self.whims = whims

    async def _answer(self, request: Request) -> Response:
        keys = [record["id"] for record in (await request.json())["records"]]
        if failure := self.whims.fail(keys):
            return failure
        named, refused = self.whims.settle(keys)
        results = [{"id": key, "status": "ok"} for key in named] + [{"id": key, "status": "error"} for key in refused]
        return JSONResponse({"results": [*results, {"id": "stranger", "status": "ok"}]})
