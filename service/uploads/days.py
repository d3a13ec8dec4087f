"""Days in a column of phones: ``28112026`` is a phone in some countries, and a spreadsheet's day in any file."""

import re

_D, _M, _YEAR = "(?:0?[1-9]|[12][0-9]|3[01])", "(?:0?[1-9]|1[0-2])", "(?:19|20)[0-9]{2}"
_DD, _MM, _YY = "(?:0[1-9]|[12][0-9]|3[01])", "(?:0[1-9]|1[0-2])", "[0-9]{2}"
_TIME = "(?:[01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9])?"
_DAY = re.compile(
    rf"{_D}([-/. ]?){_M}\1{_YEAR}|{_M}([-/. ]?){_D}\2{_YEAR}"
    rf"|{_YEAR}(?:{_MM}{_DD}(?:{_TIME})?|([-/. ]){_M}\3{_D})"
    rf"|{_DD}{_MM}{_YY}|{_MM}{_DD}{_YY}|{_YY}{_MM}{_DD}"
    rf"|{_D}([-/. ]){_M}\4{_YY}|{_M}([-/. ]){_D}\5{_YY}|{_YY}([-/. ]){_M}\6{_D}"
    r"|[345][0-9]{4}(?:\.[0-9]{1,15})?"
)
"""The last: days since 1900, from 1982 to 2064, as a spreadsheet counts them."""
_LONGEST = 21


def may_be_day(cell: str) -> bool:
    """Whether a cell without ``+`` is written as a day could be."""
    return len(cell) <= _LONGEST and _DAY.fullmatch(cell) is not None
