"""The provider's errors: ``{"error": {"message", "type"}}`` with the status that belongs to the type."""

from collections.abc import Mapping

from starlette.responses import HTMLResponse, JSONResponse, Response

_TYPES = {
    400: "invalid_request",
    401: "authentication_error",
    404: "not_found",
    405: "invalid_request",  # the documentation names no type for it
    409: "duplicate_request",
    429: "rate_limit_exceeded",
    500: "internal_error",
}


class ProviderError(Exception):
    """The emulated provider refuses a request; the type follows from the status unless ``kind`` is given."""

    def __init__(
        self, status: int, message: str, *, kind: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = kind or _TYPES.get(status, "invalid_request")
        self.headers = dict(headers or {})

    def to_response(self) -> Response:
        """The answer as the provider gives it."""
        body = {"error": {"message": self.message, "type": self.type}}
        return JSONResponse(body, status_code=self.status, headers=self.headers)


class ProxyError(ProviderError):
    """A proxy before the provider answers in its stead, in its own words."""

    def __init__(self, status: int) -> None:
        super().__init__(status, "A proxy answered.")

    def to_response(self) -> Response:
        """A page for people."""
        return HTMLResponse(f"<h1>{self.status}</h1>", status_code=self.status)
