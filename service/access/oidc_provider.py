"""The OpenID provider: its metadata and keys, both read when they are needed, and the code that becomes claims.

Keys are read again when a token names an unknown one, at most twice a minute, so a rotation needs no restart.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import structlog
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from service.errors import AuthenticationError, UnavailableError

logger = structlog.get_logger()

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Asymmetric ones only: with the others, anyone who knows the client's secret could sign."""
LEEWAY_SECONDS = 60
METADATA_SECONDS = 3600.0
KEYS_SECONDS = 30.0
TIMEOUT_SECONDS = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


def open_provider_http() -> httpx.AsyncClient:
    """A client for the provider: with a time-out, and without following redirects, which would leave the issuer."""
    return httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False)


class Provider:
    """Reads metadata, keys and claims from the provider ``issuer``."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        http: httpx.AsyncClient,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._http = http
        self._now = now
        self._clock = clock
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def read_metadata(self) -> dict[str, Any]:
        """The discovery document, read again every hour. Raises UnavailableError when it cannot be had or trusted."""
        if self._metadata is not None and self._clock() - self._metadata[0] < METADATA_SECONDS:
            return self._metadata[1]
        began = self._clock()
        metadata = await self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if metadata.get("issuer") != self._issuer:
            logger.warning("oidc_issuer_differs", setting="OUTCOMES_OIDC_ISSUER")
            raise UnavailableError(
                "The sign-in provider calls itself something else than OUTCOMES_OIDC_ISSUER: set its exact issuer"
            )
        for name in _ENDPOINTS:
            self._check_address(name, metadata.get(name))
        self._metadata = (began, metadata)
        return metadata

    async def redeem(
        self, code: str, *, redirect_uri: str, verifier: str, nonce: str, wanted: Sequence[str]
    ) -> dict[str, Any]:
        """The claims of the ID token that a code is good for, with those of the userinfo endpoint when the token lacks
        one of ``wanted``.

        Raises AuthenticationError when the code or the token is not genuine, UnavailableError when the provider does
        not answer.
        """
        metadata = await self.read_metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        tokens = await self._ask("POST", metadata["token_endpoint"], **self._authenticate(metadata, form))
        claims = await self._verify(metadata, tokens, nonce)
        lacking = [name for name in wanted if not {name, name.partition(".")[0]} & claims.keys()]
        if lacking and metadata.get("userinfo_endpoint"):
            self._check_address("userinfo_endpoint", metadata["userinfo_endpoint"])
            bearer = {"authorization": f"Bearer {tokens.get('access_token', '')}"}
            more = await self._ask("GET", metadata["userinfo_endpoint"], headers=bearer)
            if more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0, section 5.3.2
                raise AuthenticationError("The sign-in provider described somebody else: sign in again")
            claims = more | claims
        return claims

    def _authenticate(self, metadata: Mapping[str, Any], form: dict[str, str]) -> dict[str, Any]:
        """The form of a token request, with the client's secret where the provider takes it (RFC 6749, 2.3.1)."""
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            pair = (quote(self._client_id, safe=""), quote(self._client_secret, safe=""))
            return {"data": form, "auth": httpx.BasicAuth(*pair)}
        return {"data": form | {"client_id": self._client_id, "client_secret": self._client_secret}}

    async def _verify(self, metadata: Mapping[str, Any], tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """The claims of the ID token, after all checks of OpenID Connect Core 1.0, section 3.1.3.7."""
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = [algorithm for algorithm in ALGORITHMS if algorithm in offered]
        text = tokens.get("id_token")
        try:
            token = await self._decode(metadata, text if isinstance(text, str) else "", algorithms)
            claims = CodeIDToken(
                token.claims,
                token.header,
                options={
                    "iss": {"essential": True, "value": self._issuer},
                    "aud": {"essential": True, "value": self._client_id},
                    "sub": {"essential": True},
                },
                params={"nonce": nonce, "client_id": self._client_id, "access_token": tokens.get("access_token")},
            )
            claims.validate(now=int(self._now().timestamp()), leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError) as error:
            logger.warning("oidc_token_refused", reason=type(error).__name__)
            raise AuthenticationError("The sign-in provider's token is not valid: sign in again") from error
        return dict(claims)

    async def _decode(self, metadata: Mapping[str, Any], text: str, algorithms: list[str]) -> jwt.Token:
        """The token, if its signature is right; the keys are read again before it is given up."""
        if self._keys is not None:
            try:
                return jwt.decode(text, self._keys[1], algorithms=algorithms)
            except (JoseError, ValueError):
                if self._clock() - self._keys[0] < KEYS_SECONDS:
                    raise
        began = self._clock()
        found = await self._ask("GET", metadata["jwks_uri"])
        usable = [key for key in found.get("keys", []) if key.get("kty") in {"RSA", "EC"} and key.get("use") != "enc"]
        self._keys = (began, KeySet.import_key_set({"keys": usable}))
        return jwt.decode(text, self._keys[1], algorithms=algorithms)

    async def _ask(self, method: str, address: str, **options: Any) -> dict[str, Any]:
        """The JSON object that the provider answers."""
        try:
            answer = await self._http.request(method, address, **options)
            content = answer.json() if answer.status_code < 500 else None
        except (httpx.HTTPError, ValueError) as error:
            logger.warning("oidc_provider_failed", reason=type(error).__name__)
            raise _unavailable() from error
        if answer.status_code in {400, 401, 403}:
            reason = content.get("error") if isinstance(content, dict) else None
            logger.warning("oidc_request_refused", status=answer.status_code, reason=str(reason)[:40])
            raise AuthenticationError("The sign-in provider did not accept this sign-in: sign in again")
        if answer.status_code != 200 or not isinstance(content, dict):
            logger.warning("oidc_provider_failed", status=answer.status_code)
            raise _unavailable()
        return content

    def _check_address(self, name: str, address: object) -> None:
        """Raises UnavailableError for an endpoint without TLS, unless the issuer itself is on this machine."""
        if isinstance(address, str) and urlsplit(address).scheme in self._allowed_schemes():
            return
        logger.warning("oidc_endpoint_unusable", name=name)
        raise UnavailableError(f"The sign-in provider's {name} is missing or not an https:// address")

    def _allowed_schemes(self) -> set[str]:
        issuer = urlsplit(self._issuer)
        return {"http", "https"} if issuer.scheme == "http" and issuer.hostname in LOOPBACK else {"https"}


def _unavailable() -> UnavailableError:
    return UnavailableError("The sign-in provider does not answer as it should: try again", retry_after=10)
