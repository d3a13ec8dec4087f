"""CRMs that fail at random and record what they accepted, as witnesses against the job."""

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
    """What a CRM did, by key. ``confirmed`` was accepted and named as such in a complete answer."""

    accepted: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    named_twice: set[str] = field(default_factory=set)


class Behaviour:
    """Decides how each batch is answered. ``badness``: the probability of each fault."""

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
        """An answer that confirms no record, although some may be accepted; None: no failure."""
        self.outage -= 1
        if self.is_bad() and self.random.random() < 0.2:
            self.outage = 10  # longer than a job that is not patient retries
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
        """Accepts some. Returns the keys that the answer names as accepted (perhaps one twice) and those it refuses."""
        accepted = self.pick(keys) if self.is_bad() else keys
        named = self.pick(accepted) if self.is_bad() else self.random.sample(accepted, len(accepted))
        left = [key for key in keys if key not in accepted]
        refused = self.pick(left) if self.is_bad() else left
        self.witness.accepted.update(accepted)
        self.witness.named_twice |= self.witness.confirmed & set(named)
        self.witness.confirmed.update(named)
        return named + (named[:1] if self.is_bad() else []), refused


class UnreliableHubSpot(LocalHubSpot):
    """A HubSpot that names inputs by trace or by property, and sometimes a record that it was never sent."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour = behaviour

    def _upsert(self, inputs: list[dict[str, Any]]) -> Response:
        keys = [each["id"] for each in inputs]
        if failure := self.behaviour.fail(keys):
            return failure
        traces = {each["id"]: each["objectWriteTraceId"] for each in inputs}
        named, refused = self.behaviour.settle(keys)
        results = [
            {"id": f"object of {key}"}
            | (
                {"objectWriteTraceId": traces[key]}
                if self.behaviour.random.random() < 0.5
                else {"properties": {"loan_id": key}}
            )
            for key in named
        ]
        if self.behaviour.is_bad():
            results.append({"id": "stranger", "objectWriteTraceId": "999"})
        errors = [
            {"message": "no", "context": {"objectWriteTraceId": [traces[key]]} if not self.behaviour.is_bad() else {}}
            for key in refused
        ]
        content = {"status": "COMPLETE", "results": results, "errors": errors, "numErrors": len(errors)}
        return JSONResponse(content, 207 if errors else 200)


class UnreliableCrm(LocalCrm):
    """An endpoint that names single records."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour = behaviour

    async def _answer(self, request: Request) -> Response:
        keys = [record["id"] for record in (await request.json())["records"]]
        if failure := self.behaviour.fail(keys):
            return failure
        named, refused = self.behaviour.settle(keys)
        results = [{"id": key, "status": "ok"} for key in named] + [{"id": key, "status": "error"} for key in refused]
        return JSONResponse({"results": [*results, {"id": "stranger", "status": "ok"}]})
