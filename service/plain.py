"""Messages of the API as a person at a page, or with a file in a spreadsheet, needs them: without calls and with its
fields named as the pages name them. Everything that the console shows of a message goes through ``reword``."""

import re

_CALL = re.compile(
    r"(?:\s*[:;,]\s*|\s+)?(?:and )?(?:if you know, say so: |see |set one first with )?"
    r"`?\b(?:GET|PUT|POST|DELETE) (?:/v1/|…/)[^\s)`,;]*`?(?: shows (?:it|them|the reason))?"
)
_EMPTY = re.compile(r"\s*\(\s*\)")
_COUNTRY = re.compile(r",? or send region=(?:, the country of the numbers without one, such as region=)?[^.;]*")
_SHAPE = re.compile(r"(?s)The body: Expected `\w+` of length (<=|>=) (\d+) - at `\$\.(\w+)`; send JSON such as .*")
_EXAMPLE = re.compile(r"[;:] send JSON such as .*", re.DOTALL)
_CHANGES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"send one of them, such as phone_column=.*", "choose one of them as the phone column"),
        (r"send phone_column=NAME for another column", "choose another phone column"),
        (r"(?:send|Name the one with the phones:) phone_column=.*", "choose the phone column"),
        (r"leave phone_column out", "choose no phone column"),
        (r"send invalid=skip", "choose to leave out rows with errors"),
        (r"send duplicates=first or duplicates=all", "choose what to do with repeated numbers"),
        (r"send accept_columns=true to replace the agent's columns", "accept the new columns below"),
        (r"To call them again, send force=true", "To call them again, tick that below"),
        (r"send skip_called_within=\w+", "choose below how long ago they were called"),
        (r"send accept_phone true", "tick that the phone may differ"),
        (r"For another, send sheet=NAME", "Another one can be chosen"),
        (
            r"send region=, the country of the numbers without one, such as region=IN",
            "choose the country of the numbers",
        ),
        (r"send region=([A-Z]{2})", r"choose the country \1"),
        (r"region=([A-Z]{2}) if it is", r"\1 if it is"),
        (r"choose the country ([A-Z]{2}) if it is", r"choose the country \1 if it is"),
        (r"check the file again \(dry_run=true\), and send the report_digest of that", "check the file again"),
        (r"\btest_recipients\b: must be", "The size of the test must be"),
    )
)
_NAMES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^(?:file|report_digest): ", ""),
        (r"promote_at_success_rate: ", "Success rate: "),
        (r"promote_at_goal_rate: ", "Goal rate: "),
        (r"skip_called_within: ", "Called lately: "),
        (r"agent_id: ", "Agent: "),
        (r"^name: ", "Name: "),
        (r"^region: ", "Country: "),
        (r"^sheet: ", "Sheet: "),
    )
)


def hide_calls(text: str) -> str:
    """``… (upload 7: see GET /v1/uploads/7)`` becomes ``… (upload 7)``."""
    return _EMPTY.sub("", _CALL.sub("", text))


def name_choices(text: str) -> str:
    """The text with the choices that the API calls fields, such as ``invalid=skip``, in words."""
    for pattern, words in _CHANGES:
        text = pattern.sub(words, text)
    return text


def reword(text: str, *, has_country: bool = True) -> str:
    """The text as a page shows it, with a capital letter. ``has_country``: whether the page lets people choose one."""
    if shape := _SHAPE.fullmatch(text):
        bound, length, name = shape.groups()
        return f"{name.replace('_', ' ').capitalize()}: at {'most' if bound == '<=' else 'least'} {length} characters"
    text = _EXAMPLE.sub("", hide_calls(text))
    text = name_choices(text if has_country else _COUNTRY.sub("", text))
    for pattern, words in _NAMES:
        text = pattern.sub(words, text)
    return text[:1].upper() + text[1:]
