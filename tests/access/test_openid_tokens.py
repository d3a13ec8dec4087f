"""Tokens of an OpenID provider: only genuine ones of the right issuer, client and sign-in count.

The certified provider makes no wrong token, so the wrong ones come from a server here, over HTTP.
"""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.access.oidc import read_groups
from service.access.oidc_provider import KEYS_SECONDS, METADATA_SECONDS, Provider, open_provider_http
from service.access.oidc_transactions import LIFETIME_SECONDS, Transactions
from service.errors import AuthenticationError, UnavailableError
from service.server.process import Service, serve_in_background

NOW = datetime(2026, 3, 16, 9, tzinfo=UTC)
CLIENT_ID, CLIENT_SECRET = "outcomes", "a-secret-of-the-client"
RSA, OTHER_RSA = (RSAKey.generate_key(2048, {"kid": kid, "use": "sig"}) for kid in ("first", "second"))
EC = ECKey.generate_key("P-256", {"kid": "curve", "use": "sig"})


class Forger:
    """A provider that answers what the test sets."""

    def __init__(self) -> None:
        self.issuer = ""
        self.metadata: dict[str, Any] = {}
        self.keys: list[RSAKey | ECKey] = [RSA]
        self.signing: RSAKey | ECKey | OctKey = RSA
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "first"}
        self.claims: dict[str, Any] = {}
        self.id_token: str | None = None
        self.userinfo: dict[str, Any] = {}
        self.token_answer: Response | None = None
        self.asked: list[str] = []
        self.authorization = ""
        self.form: dict[str, Any] = {}

    def app(self) -> Starlette:
        names = ("discover", "list_keys", "redeem", "describe")
        paths = ("/.well-known/openid-configuration", "/keys", "/token", "/userinfo")
        routes = [
            Route(path, getattr(self, name), methods=["GET", "POST"]) for name, path in zip(names, paths, strict=True)
        ]
        return Starlette(routes=routes)

    async def discover(self, request: Request) -> Response:
        self.asked.append("metadata")
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/auth",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
            }
            | self.metadata
        )

    async def list_keys(self, request: Request) -> Response:
        self.asked.append("keys")
        odd = [{"kty": "oct", "k": "AAAA", "kid": "odd"}, {"kty": "new", "kid": "newer"}]
        return JSONResponse({"keys": odd + KeySet(list(self.keys)).as_dict(private=False)["keys"]})

    async def redeem(self, request: Request) -> Response:
        self.authorization = request.headers.get("authorization", "")
        self.form = dict(await request.form())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "sub": "asha", "nonce": "n-1", "groups": ["ops"],
            "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 300,
        } | self.claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        token = self.id_token or jwt.encode(self.header, claims, self.signing, algorithms=[self.header["alg"]])
        return self.token_answer or JSONResponse({"access_token": "at", "token_type": "Bearer", "id_token": token})

    async def describe(self, request: Request) -> Response:
        self.asked.append("userinfo")
        assert request.headers["authorization"] == "Bearer at"
        return JSONResponse({"sub": "asha"} | self.userinfo)


@pytest.fixture
async def forger() -> AsyncIterator[Forger]:
    made = Forger()
    async with serve_in_background(Service(made.app()), "127.0.0.1", 0) as port:
        made.issuer = f"http://127.0.0.1:{port}"
        yield made


class Client:
    """The service's side, with a clock that the test moves."""

    def __init__(self, provider: Provider, seconds: list[float]) -> None:
        self.provider = provider
        self.seconds = seconds

    async def redeem(self, *wanted: str) -> dict[str, Any]:
        return await self.provider.redeem(
            "code", redirect_uri="https://outcomes.example.com/cb", verifier="v", nonce="n-1", wanted=wanted
        )


@pytest.fixture
async def client(forger: Forger) -> AsyncIterator[Client]:
    seconds = [0.0]
    async with open_provider_http() as http:
        yield Client(Provider(forger.issuer, CLIENT_ID, CLIENT_SECRET, http, lambda: NOW, lambda: seconds[0]), seconds)


async def test_a_genuine_token_counts(forger: Forger, client: Client) -> None:
    claims = await client.redeem("groups")
    assert (claims["sub"], claims["groups"]) == ("asha", ["ops"])
    assert forger.asked == ["metadata", "keys"]
    assert forger.form == {
        "grant_type": "authorization_code", "code": "code", "code_verifier": "v",
        "redirect_uri": "https://outcomes.example.com/cb",
    }  # fmt: skip
    assert base64.b64decode(forger.authorization.removeprefix("Basic ")) == b"outcomes:a-secret-of-the-client"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example.com"}, {"iss": None},
        {"aud": "another"}, {"aud": ["another", "third"]}, {"aud": None}, {"aud": []},
        {"aud": ["outcomes", "another"], "azp": "another"}, {"azp": "another"}, {"aud": "another", "azp": "outcomes"},
        {"sub": None}, {"sub": ""}, {"sub": 7},
        {"nonce": None}, {"nonce": "n-2"},
        {"exp": int(NOW.timestamp()) - 61}, {"exp": None}, {"exp": "soon"},
        {"iat": int(NOW.timestamp()) + 120}, {"iat": None}, {"nbf": int(NOW.timestamp()) + 120},
        {"at_hash": "AAAA"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_claim_that_is_wrong_or_missing_is_refused(
    forger: Forger, client: Client, claims: dict[str, Any]
) -> None:
    forger.claims = claims
    with pytest.raises(AuthenticationError, match="not valid"):
        await client.redeem()


async def test_several_audiences_are_accepted_when_this_client_is_the_authorised_party(
    forger: Forger, client: Client
) -> None:
    forger.claims = {"aud": ["another", "outcomes"], "azp": "outcomes"}
    assert (await client.redeem())["sub"] == "asha"


async def test_a_signature_by_another_key_is_refused(forger: Forger, client: Client) -> None:
    forger.signing = OTHER_RSA
    with pytest.raises(AuthenticationError):
        await client.redeem()


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_a_token_that_anyone_could_have_made_is_refused(forger: Forger, client: Client, algorithm: str) -> None:
    genuine = {"iss": forger.issuer, "aud": CLIENT_ID, "sub": "asha", "nonce": "n-1", "iat": NOW.timestamp()}
    claims = genuine | {"exp": NOW.timestamp() + 300}
    if algorithm == "none":
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                 for part in ({"alg": "none", "kid": "first"}, claims)]  # fmt: skip
        forger.id_token = f"{'.'.join(parts)}."
    else:
        secret = OctKey.import_key(CLIENT_SECRET)
        forger.id_token = jwt.encode({"alg": "HS256", "kid": "first"}, claims, secret)
    with pytest.raises(AuthenticationError):
        await client.redeem()


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "eyJhbGciOiJSUzI1NiJ9.e30."])
async def test_what_is_no_token_is_refused(forger: Forger, client: Client, text: str) -> None:
    forger.token_answer = JSONResponse({"access_token": "at", "id_token": text})
    with pytest.raises(AuthenticationError):
        await client.redeem()


async def test_a_rotated_key_is_found_without_a_restart_and_a_flood_asks_little(forger: Forger, client: Client) -> None:
    await client.redeem()
    forger.keys, forger.signing, forger.header = [EC], EC, {"alg": "ES256", "kid": "curve"}
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            await client.redeem()
    assert forger.asked.count("keys") == 1
    client.seconds[0] = KEYS_SECONDS
    assert (await client.redeem())["sub"] == "asha"
    assert (await client.redeem())["sub"] == "asha"
    assert forger.asked.count("keys") == 2


async def test_metadata_are_read_again_every_hour(forger: Forger, client: Client) -> None:
    for at in (0.0, METADATA_SECONDS - 1, METADATA_SECONDS):
        client.seconds[0] = at
        await client.redeem()
    assert forger.asked.count("metadata") == 2


async def test_claims_that_the_token_lacks_come_from_userinfo_and_never_replace_its_own(
    forger: Forger, client: Client
) -> None:
    forger.claims, forger.userinfo = {"name": "Asha"}, {"name": "Someone", "roles": ["a"], "iss": "x"}
    assert "roles" not in await client.redeem("name")
    claims = await client.redeem("name", "roles")
    assert (claims["name"], claims["roles"], claims["iss"]) == ("Asha", ["a"], forger.issuer)
    forger.userinfo = {"sub": "another", "roles": ["admin"]}
    with pytest.raises(AuthenticationError, match="somebody else"):
        await client.redeem("roles")


async def test_a_provider_that_takes_the_secret_only_in_the_form_gets_it_there(forger: Forger, client: Client) -> None:
    forger.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await client.redeem()
    assert (forger.form["client_id"], forger.form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
    assert forger.authorization == ""


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example.com"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_metadata_that_cannot_be_trusted_are_refused(
    forger: Forger, client: Client, metadata: dict[str, Any]
) -> None:
    forger.metadata = metadata
    with pytest.raises(UnavailableError):
        await client.redeem()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (JSONResponse({"error": "invalid_grant"}, 400), AuthenticationError),
        (JSONResponse({}, 500), UnavailableError),
        (Response("<html>", 200), UnavailableError),
        (JSONResponse([], 200), UnavailableError),
        (Response(status_code=302, headers={"location": "/userinfo"}), UnavailableError),
    ],
)
async def test_a_failed_exchange_is_an_error(
    forger: Forger, client: Client, answer: Response, error: type[Exception]
) -> None:
    forger.token_answer = answer
    with pytest.raises(error):
        await client.redeem()


def test_a_transaction_ends_and_cannot_be_changed() -> None:
    times = [NOW]
    transactions = Transactions(CLIENT_SECRET, lambda: times[0])
    begun = transactions.begin("/console/batches?q=é")
    assert Transactions(CLIENT_SECRET, lambda: NOW).read(begun.text) == begun
    assert transactions.begin("/console").text != transactions.begin("/console").text
    for place in range(0, len(begun.text), 7):
        changed = "A" if begun.text[place] != "A" else "B"
        assert transactions.read(begun.text[:place] + changed + begun.text[place + 1 :]) is None
    assert Transactions("another secret", lambda: NOW).read(begun.text) is None
    times[0] = NOW + timedelta(seconds=LIFETIME_SECONDS - 1)
    assert transactions.read(begun.text) is not None
    times[0] = NOW + timedelta(seconds=LIFETIME_SECONDS)
    assert transactions.read(begun.text) is None


@pytest.mark.parametrize(
    ("claims", "claim", "groups"),
    [
        ({"groups": ["a", "b"]}, "groups", ["a", "b"]),
        ({"groups": "a b"}, "groups", ["a b"]),
        ({"groups": ["a", 7, None, ""]}, "groups", ["a"]),
        ({}, "groups", []),
        ({"groups": {"a": True}}, "groups", []),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ["a"]),
        ({"https://example.com/groups": ["a"]}, "https://example.com/groups", ["a"]),
        ({"realm_access": "x"}, "realm_access.roles", []),
    ],
)
def test_groups_are_read_from_a_list_a_text_or_a_claim_in_a_claim(
    claims: dict[str, Any], claim: str, groups: list[str]
) -> None:
    assert read_groups(claims, claim) == groups
