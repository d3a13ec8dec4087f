"""Whether a webhook is signed by a live secret of its target."""

from collections.abc import MutableMapping

from service.errors import AuthenticationError, UnavailableError
from service.formant.signature import SIGNATURE_HEADER
from service.formant.targets import Target
from service.webhooks.encodings import decode_content

RETRY_AFTER_SECONDS = 5


class SignatureCheck:
    """Verifies webhooks, and counts in ``used`` which secret of which target signed them."""

    def __init__(self, used: MutableMapping[tuple[str, ...], int], *, max_body_bytes: int) -> None:
        self._used = used
        self._max_body_bytes = max_body_bytes

    def verify(self, target: Target, body: bytes, signature: bytes) -> bytes | None:
        """The signature, to be kept with the body; None where the target takes unsigned ones. Raises
        AuthenticationError."""
        if target.verifier is None:
            return None
        signed = target.verifier.find_secret(body, signature)
        if signed is None:
            raise AuthenticationError(
                f"{SIGNATURE_HEADER} is missing or was not made with a secret of this target: compare "
                "FORMANT_WEBHOOK_SECRET with the secret in the provider's dashboard"
            )
        self._used[target.name, str(signed.secret + 1)] += 1
        return signed.digest

    def verify_encoded(
        self, target: Target, body: bytes, signature: bytes, encoding: bytes
    ) -> tuple[bytes, bytes | None]:
        """The content of a compressed body, and its signature: the sender's, or one under the same secret where the
        sender signed the compressed body. A body that cannot be decoded is returned as it is if it is signed; else
        UnavailableError asks for it again, since a right signature may be inside.
        """
        content = decode_content(body, encoding, self._max_body_bytes)
        verifier = target.verifier
        signed = verifier.find_secret(body, signature) if verifier else None
        if verifier and signed and content is not None:
            self._used[target.name, str(signed.secret + 1)] += 1
            return content, verifier.sign(content, signed.secret).digest
        if verifier and not signed and content is None:
            raise UnavailableError(
                "Content-Encoding: takes gzip or deflate within the limits, or a signature of the body as sent",
                retry_after=RETRY_AFTER_SECONDS,
            )
        read = body if content is None else content
        return read, self.verify(target, read, signature)
