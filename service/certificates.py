"""Why TLS with another server failed, in words and with what to do about it."""

import ssl
from typing import NamedTuple


class TlsFailure(NamedTuple):
    """``reason`` goes after the server's name; neither quotes an address."""

    reason: str
    remedy: str


UNKNOWN_AUTHORITY = TlsFailure(
    "its certificate is of an unknown authority",
    "Have it send the whole chain; add a private authority to SSL_CERT_FILE, beside all others that are needed",
)
OTHER_NAME = TlsFailure("its certificate is for another name", "Use a name that is in it, or get one for this name")
EXPIRED = TlsFailure("its certificate has expired", "Renew it, and load it there")
NOT_YET_VALID = TlsFailure("its certificate is not valid yet", "Check this machine's clock, and when it was issued")
NO_TLS = TlsFailure("it answers without TLS", "Use its http:// address in a private network, or put TLS in front")

_BY_CODE = {
    2: UNKNOWN_AUTHORITY, 18: UNKNOWN_AUTHORITY, 19: UNKNOWN_AUTHORITY, 20: UNKNOWN_AUTHORITY, 21: UNKNOWN_AUTHORITY,
    9: NOT_YET_VALID, 10: EXPIRED, 62: OTHER_NAME, 64: OTHER_NAME,
}  # fmt: skip
"""By OpenSSL's X509_V_ERR_… codes."""
_PLAIN_TEXT = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"}


def find_tls_failure(error: BaseException) -> TlsFailure | None:
    """The failure of TLS that caused ``error``; None if it has another cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            known = _BY_CODE.get(cause.verify_code)
            return known or TlsFailure(f"its certificate is invalid ({cause.verify_message})", "Get another one")
        if isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN_TEXT:
            return NO_TLS
        cause = cause.__cause__ or cause.__context__
    return None


def describe_failure(error: BaseException) -> str:
    """Why a request got no answer: TLS' failure with its remedy, or the error's type."""
    failure = find_tls_failure(error)
    if failure is None:
        return type(error).__name__
    return f"{failure.reason}: {failure.remedy[0].lower()}{failure.remedy[1:]}"
