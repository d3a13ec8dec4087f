"""Small JSON bodies of requests, bounded before they are read."""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from service.errors import BodyTooLargeError, InvalidRequestError

MAX_BYTES = 16 * 1024

T = TypeVar("T")


async def read_json(request: Request, shape: type[T], example: str) -> T:
    """The body as ``shape``. Raises InvalidRequestError, which says what is wrong and shows the example, and
    BodyTooLargeError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BodyTooLargeError(f"The body is over {MAX_BYTES} bytes: send JSON such as {example}")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"The body: {error}; send JSON such as {example}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"The body is no JSON: send some such as {example}") from error
