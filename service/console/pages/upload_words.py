"""Upload's errors as a person at the page needs them: the API's words with its fields named as the page names them."""

import re

_CHANGES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^(?:file|report_digest): ", ""),
        (r"send one of them, such as phone_column=.*", "choose one of them as the phone column"),
        (r"send phone_column=NAME for another column", "choose another phone column"),
        (r"(?:send|Name the one with the phones:) phone_column=.*", "choose the phone column"),
        (r"leave phone_column out", "choose no phone column"),
        (r"send invalid=skip", "choose to leave out rows with errors"),
        (r"send duplicates=first or duplicates=all", "choose below what to do with repeated numbers"),
        (r"send accept_columns=true to replace the agent's columns", "accept the new columns below"),
        (r"To call them again, send force=true", "To call them again, tick that below"),
        (r"For another, send sheet=NAME", "Another one can be chosen"),
        (
            r"send region=, the country of the numbers without one, such as region=IN",
            "choose the country of the numbers",
        ),
        (r"send region=([A-Z]{2})", r"choose the country \1"),
        (r"region=([A-Z]{2}) if it is", r"\1 if it is"),
        (r"choose the country ([A-Z]{2}) if it is", r"choose the country \1 if it is"),
        (r"check the file again \(dry_run=true\), and send the report_digest of that", "check the file again"),
        (r" \((?:GET|PUT|POST) /v1/[^)]*\)", ""),
        (r": see GET /v1/[^)]*", ""),
        (r"; if you know, say so: POST /v1/\S+", ""),
        (r"\btest_recipients\b: must be", "The size of the test must be"),
        (r"promote_at_success_rate: ", "Success rate: "),
        (r"promote_at_goal_rate: ", "Goal rate: "),
        (r"skip_called_within: ", "Called lately: "),
        (r"agent_id: ", "Agent: "),
        (r"^name: ", "Name: "),
        (r"^region: ", "Country: "),
        (r"^sheet: ", "Sheet: "),
    )
)


def reword(text: str) -> str:
    """The text with the fields of the API as the page names them, and a capital letter."""
    for pattern, words in _CHANGES:
        text = pattern.sub(words, text)
    return text[:1].upper() + text[1:]
