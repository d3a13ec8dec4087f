"""Signing in by OpenID Connect (Core 1.0), at any provider: the code flow with PKCE (RFC 7636), state and nonce.

The browser carries the transaction between the two halves of a sign-in in a signed cookie, so any replica can finish
what another began. Groups become scopes at sign-in. No token is kept: the session's own end bounds how long a change
of groups can go unnoticed.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from service.access.oidc_provider import Provider
from service.access.oidc_transactions import Transaction, Transactions
from service.errors import AuthenticationError, ConfigurationError, PermissionDeniedError
from service.settings import Settings
from service.web.scopes import SCOPES, Scope

logger = structlog.get_logger()

CALLBACK_PATH = "/console/sign-in/callback"
MAX_CODE_CHARACTERS = 4000
MAX_SUBJECT_CHARACTERS = 255
MAX_NAME_CHARACTERS = 200
SHOWN_GROUPS = 20
_NAME_CLAIMS = ("name", "preferred_username", "email")
_NEEDED = {
    "OUTCOMES_OIDC_ISSUER": "oidc_issuer",
    "OUTCOMES_OIDC_CLIENT_ID": "oidc_client_id",
    "OUTCOMES_OIDC_CLIENT_SECRET": "oidc_client_secret",
    "OUTCOMES_OIDC_GROUP_SCOPES": "oidc_group_scopes",
}


class OidcConfiguration(NamedTuple):
    """The complete settings of sign-in by OpenID Connect. ``group_scopes`` has the scopes of each group."""

    issuer: str
    client_id: str
    client_secret: str
    scope: str
    groups_claim: str
    group_scopes: Mapping[str, tuple[str, ...]]
    redirect_uri: str


class Identity(NamedTuple):
    """A person whom the provider vouches for. ``sign_in_digest`` identifies this one sign-in."""

    issuer: str
    subject: str
    name: str
    scopes: tuple[Scope, ...]
    next_path: str
    sign_in_digest: bytes


def read_oidc(settings: Settings) -> OidcConfiguration | None:
    """The configuration; None when nothing of it is set. Raises ConfigurationError when only a part is set, or a group
    has an unknown scope."""
    given = {name for name, field in _NEEDED.items() if getattr(settings, field)}
    if not given:
        return None
    missing = sorted(_NEEDED.keys() - given) + ([] if settings.public_url else ["OUTCOMES_PUBLIC_URL"])
    if missing:
        raise ConfigurationError(
            f"Sign-in by OpenID Connect lacks {' and '.join(missing)}: set what is missing, or unset "
            f"{' and '.join(sorted(given))}"
        )
    for group, scopes in settings.oidc_group_scopes.items():
        for scope in scopes:
            if scope not in SCOPES:
                raise ConfigurationError(
                    f"OUTCOMES_OIDC_GROUP_SCOPES gives the group {group!r} the unknown scope {scope!r}: "
                    f"the scopes are {', '.join(SCOPES)}"
                )
    return OidcConfiguration(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret,
        settings.oidc_scopes,
        settings.oidc_groups_claim,
        settings.oidc_group_scopes,
        settings.public_url + CALLBACK_PATH,
    )


class Oidc:
    """Begins and finishes sign-ins."""

    def __init__(
        self,
        configuration: OidcConfiguration,
        http: httpx.AsyncClient,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._configuration = configuration
        self._provider = Provider(configuration.issuer, configuration.client_id, configuration.client_secret, http, now)
        self._transactions = Transactions(configuration.client_secret, now)

    async def begin(self, next_path: str) -> tuple[str, str]:
        """The provider's address to go to, and the transaction, for the browser to bring back. Raises UnavailableError
        when the provider does not answer."""
        metadata = await self._provider.read_metadata()
        transaction = self._transactions.begin(next_path)
        address: str = prepare_grant_uri(
            metadata["authorization_endpoint"],
            self._configuration.client_id,
            "code",
            redirect_uri=self._configuration.redirect_uri,
            scope=self._configuration.scope,
            state=transaction.state,
            nonce=transaction.nonce,
            code_challenge=create_s256_code_challenge(transaction.verifier),
            code_challenge_method="S256",
        )
        return address, transaction.text

    async def finish(self, transaction_text: str, answer: Mapping[str, str]) -> Identity:
        """The person, from the parameters with which the provider sent the browser back.

        Raises AuthenticationError for an answer that is not of this transaction or is not genuine,
        PermissionDeniedError for a person in no mapped group, UnavailableError when the provider does not answer.
        """
        transaction = self._transactions.read(transaction_text)
        if transaction is None or not transaction.has_state(answer.get("state", "")):
            raise AuthenticationError(
                "This sign-in took too long, was begun in another browser, or was finished before: sign in again"
            )
        if answer.get("iss", self._configuration.issuer) != self._configuration.issuer:  # RFC 9207
            raise AuthenticationError("The answer came from another sign-in provider: sign in again")
        code = answer.get("code", "")
        if "error" in answer or not 0 < len(code) <= MAX_CODE_CHARACTERS:
            logger.warning("oidc_refused_by_provider")
            raise AuthenticationError("The sign-in provider did not sign you in: sign in again, or ask its admin")
        claims = await self._provider.redeem(
            code, redirect_uri=self._configuration.redirect_uri, verifier=transaction.verifier, nonce=transaction.nonce,
            wanted=(self._configuration.groups_claim, *_NAME_CLAIMS[:1]),
        )  # fmt: skip
        return self._identify(claims, transaction)

    def _identify(self, claims: Mapping[str, Any], transaction: Transaction) -> Identity:
        configuration, subject = self._configuration, claims["sub"]
        if not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or "\0" in subject:
            raise AuthenticationError("The sign-in provider gave no usable subject")
        groups = read_groups(claims, configuration.groups_claim)
        allowed = {scope for group in groups for scope in configuration.group_scopes.get(group, ())}
        if not allowed:
            held = ", ".join(groups[:SHOWN_GROUPS]) if groups else "nothing"
            raise PermissionDeniedError(
                "You are signed in at your company, but none of your groups may use this console. The claim "
                f"{configuration.groups_claim!r} was read, and held: {held}. Ask an admin to add you to a group"
            )
        return Identity(
            configuration.issuer,
            subject,
            _read_name(claims),
            tuple(scope for scope in SCOPES if scope in allowed),
            transaction.next_path,
            hashlib.sha256(transaction.text.encode()).digest(),
        )


def read_groups(claims: Mapping[str, Any], claim: str) -> list[str]:
    """The texts in a claim: a list or a single one. ``realm_access.roles`` is a claim of that name, else ``roles``
    within ``realm_access``."""
    value: Any = claims.get(claim)
    if value is None:
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str) and each]


def _read_name(claims: Mapping[str, Any]) -> str:
    """What to call a person: the first of the usual claims, else the subject."""
    for claim in (*_NAME_CLAIMS, "sub"):
        value = claims.get(claim)
        if isinstance(value, str) and (name := value.replace("\0", "").strip()):
            return name[:MAX_NAME_CHARACTERS]
    return "unnamed"
