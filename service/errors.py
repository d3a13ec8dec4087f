"""The errors that this service raises on purpose, and what each asks its caller to do.

``ApiError`` is an HTTP answer: its status, its type (the provider's vocabulary, so that one client handles both) and a
message that names the field and the remedy. All other errors are for operators.
"""

from typing import Any


class OutcomesError(Exception):
    """Base of all errors below; the message is a full sentence that says what to do."""


class ConfigurationError(OutcomesError):
    """A setting is missing or wrong: the service refuses to start."""


class DatabaseError(OutcomesError):
    """The database cannot be used as it is: unsafe settings, too old, or a schema that does not fit this version."""


class CommitInDoubtError(OutcomesError):
    """Committed on this server, but perhaps not on its standbys: it is written again before it is acknowledged."""


class OverloadedError(OutcomesError):
    """Not stored: the backlog is full or the database did not answer in time. The sender should send it again."""


class ApiError(OutcomesError):
    """An HTTP answer in the common error shape."""

    status = 500
    type = "internal_error"

    def __init__(
        self, message: str, *, headers: dict[str, str] | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}
        self.details = details


class InvalidRequestError(ApiError):
    """400: the request is wrong; repeating it unchanged will not help. ``details`` has what the message cannot hold."""

    status = 400
    type = "invalid_request"


class AuthenticationError(ApiError):
    """401: the key is missing or unknown."""

    status = 401
    type = "authentication_error"


class PermissionDeniedError(ApiError):
    """403: the key is known but lacks the scope that the message names."""

    status = 403
    type = "permission_error"


class NotFoundError(ApiError):
    """404: not found."""

    status = 404
    type = "not_found"


class MethodNotAllowedError(ApiError):
    """405: the path is right, the method is not."""

    status = 405
    type = "invalid_request"


class ConflictError(ApiError):
    """409: not possible in the present state, which the message names."""

    status = 409
    type = "conflict"


class DuplicateRequestError(ApiError):
    """409: the same request was made before; the message names it. A repeat must be explicit."""

    status = 409
    type = "duplicate_request"


class KeyReusedError(ApiError):
    """422: the idempotency key was used with another request before."""

    status = 422
    type = "invalid_request"


class BodyTooLargeError(ApiError):
    """413: the body is over the limit."""

    status = 413
    type = "invalid_request"


class UnavailableError(ApiError):
    """503: not possible now; the same request may be repeated after ``retry_after`` seconds."""

    status = 503
    type = "unavailable"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message, headers={"retry-after": str(retry_after)} if retry_after is not None else {})


class ProviderError(ApiError):
    """The provider refused a call, or its answer was lost. Carries its status and type on to our caller.

    ``is_sent_unknown`` is true when the call may have taken effect although no answer came. After such an upload,
    people may already be dialled, so it must not be repeated.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        error_type: str,
        headers: dict[str, str] | None = None,
        is_sent_unknown: bool = False,
    ) -> None:
        super().__init__(message, headers=headers)
        self.status = status
        self.type = error_type
        self.is_sent_unknown = is_sent_unknown
