"""Which answers to an upload prove that the provider did not take it.

A wrong "refused" lets the caller upload again, and everyone is called twice. A wrong "unknown" costs an operator a look
at the provider's dashboard. So an answer is a certain refusal only where nothing else explains it.
"""

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_BEFOREHAND = frozenset({400, 401, 403, 404, 413})
"""Refusals by the contract, a firewall or a gateway, all made before the request is processed."""
_IN_DOUBT = frozenset({408, 409, 425, 499})
"""Time-outs, duplicates and closed connections: the provider may have accepted the request."""
_LIMIT_TYPES = frozenset({"rate_limit_exceeded", "concurrent_call_limit_exceeded"})
_REFUSAL_TYPES = frozenset({"invalid_request", "authentication_error", "permission_error", "not_found"})
_TAKEN_TYPES = frozenset({"duplicate_request", "internal_error"})
"""Types that say that the provider has begun to process the request, or accepted it earlier."""


class ProviderProblem(msgspec.Struct):
    """The provider's reason for a refusal. ``type`` is empty when the body is not in the provider's format."""

    message: str = ""
    type: str = ""


class _Problems(msgspec.Struct):
    error: ProviderProblem


def read_problem(body: bytes) -> ProviderProblem:
    """The problem in an answer's body (contract, "Errors and limits"); an empty one for any other body."""
    try:
        return msgspec.json.decode(body, type=_Problems).error
    except UNDECODABLE:
        return ProviderProblem()


def is_certain_refusal(status: int, body: bytes) -> bool:
    """Whether this answer to an upload proves that no calls are made.

    | status | certain when |
    |---|---|
    | 400, 401, 403, 404, 413 | always, unless the type in the body says that the request was accepted |
    | 429 | the body has the provider's format, with one of its two limit types |
    | other 4xx | the body has the provider's format, with a refusal type |
    | 408, 409, 425, 499, all others | never |
    """
    problem_type = read_problem(body).type
    if status in _BEFOREHAND:
        return problem_type not in _TAKEN_TYPES
    if status == 429:
        return problem_type in _LIMIT_TYPES
    return 400 <= status < 500 and status not in _IN_DOUBT and problem_type in _REFUSAL_TYPES
