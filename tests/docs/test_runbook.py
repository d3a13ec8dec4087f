"""The runbook has an entry for every alarm and alert, in four parts: what it means, what to check, what to do, and how
to know that it is over."""

import re
from pathlib import Path

import yaml

from service.alarms.alarms import KINDS

ROOT = Path(__file__).parents[2]
PARTS = ["**Means.**", "**Look at.**", "**Do.**", "**Over**"]
ENTRIES = {
    heading.lower(): text
    for heading, text in re.findall(
        r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "operate" / "runbook.md").read_text(), re.S | re.M
    )
}


def read_rules() -> list[dict[str, dict[str, str]]]:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alarm_and_every_alert_has_an_entry_in_four_parts() -> None:
    anchors = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in read_rules()}
    wanted = KINDS.keys() | {anchor for anchor in anchors if not anchor.startswith("{{")} | {"failover"}
    for name in wanted:
        assert re.findall(r"^(\*\*(?:Means|Look at|Do)\.\*\*|\*\*Over\*\*)", ENTRIES[name], re.M) == PARTS, name
        for part in re.split(r"^\*\*\w[\w ]*\.?\*\*", ENTRIES[name], flags=re.M)[1:]:
            assert len(part.split()) >= 3, f"{name}: {part}"


def test_every_alarm_has_an_alert_rule() -> None:
    alerting = {
        name
        for rule in read_rules()
        for names in re.findall(r'name=~"([^"]+)"', str(rule["expr"]))
        for name in names.split("|")
    }
    assert alerting == KINDS.keys()
