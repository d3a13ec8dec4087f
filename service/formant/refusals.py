"""Which answers to an upload prove that the provider did not take it.

A wrong "refused" lets the caller upload again, and everybody is dialled twice; a wrong "unknown" costs a person a look
at the provider's dashboard. So an answer is a certain refusal only where nothing else explains it.
"""

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_BEFOREHAND = frozenset({400, 401, 403, 404, 413})
"""The contract's refusals of an upload, and a firewall's and a gateway's: judged before a request is passed on."""
_IN_DOUBT = frozenset({408, 409, 425, 499})
"""Time-outs, duplicates and callers that hung up: the request itself may have been taken."""
_LIMIT_TYPES = frozenset({"rate_limit_exceeded", "concurrent_call_limit_exceeded"})
_REFUSAL_TYPES = frozenset({"invalid_request", "authentication_error", "permission_error", "not_found"})
_TAKEN_TYPES = frozenset({"duplicate_request", "internal_error"})
"""Types that say that the provider had begun with the request, or had taken it before."""


class Problem(msgspec.Struct):
    """The provider's own words on why not. An empty ``type``: the body is not in the provider's shape."""

    message: str = ""
    type: str = ""


class _Problems(msgspec.Struct):
    error: Problem


def read_problem(body: bytes) -> Problem:
    """The problem in an answer's body (contract, "Errors and limits"); an empty one where the body is not that."""
    try:
        return msgspec.json.decode(body, type=_Problems).error
    except UNDECODABLE:
        return Problem()


def is_certain_refusal(status: int, body: bytes) -> bool:
    """Whether this answer to an upload proves that nobody is dialled.

    | status | certain when |
    |---|---|
    | 400, 401, 403, 404, 413 | whatever the body, unless its type says that the request was taken |
    | 429 | in the provider's shape, with one of its two limits |
    | other 4xx | in the provider's shape, with a type that refuses |
    | 408, 409, 425, 499, all others | never |
    """
    problem_type = read_problem(body).type
    if status in _BEFOREHAND:
        return problem_type not in _TAKEN_TYPES
    if status == 429:
        return problem_type in _LIMIT_TYPES
    return 400 <= status < 500 and status not in _IN_DOUBT and problem_type in _REFUSAL_TYPES
