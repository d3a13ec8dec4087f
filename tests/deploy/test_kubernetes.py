"""The manifests: each overlay builds, each document fits Kubernetes' published schemas, and they fit each other."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.cli import outcomes
from service.settings import NAMES, SECRETS, SYNC_NAMES, SYNC_SECRETS
from tests.deploy.command_lines import parse

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
VERSIONS = ("1.28", "1.37")
"""The oldest and the newest Kubernetes that the manifests are checked for."""
MONITORING: dict[str, dict[str, set[str]]] = {
    "ServiceMonitor": {"required": {"selector", "endpoints"}, "known": {"selector", "endpoints", "jobLabel"}},
    "PrometheusRule": {"required": {"groups"}, "known": {"groups"}},
}
"""The fields that the Prometheus Operator's resources must have, and those of them that are used here."""

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None and shutil.which("kustomize") is None, reason="needs kubectl or kustomize"
)


@cache
def build(folder: str) -> tuple[dict[str, Any], ...]:
    """The documents that Kustomize makes of a folder of ``deploy``."""
    program = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    built = subprocess.run([*program, str(ROOT / "deploy" / folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "deprecated" not in built.stderr
    return tuple(yaml.safe_load_all(built.stdout))


PRODUCTION = "kubernetes/overlays/production"


def find(kind: str, folder: str = PRODUCTION) -> list[dict[str, Any]]:
    return [document for document in build(folder) if document["kind"] == kind]


def find_pods(folder: str = PRODUCTION) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and pod templates of everything that runs."""
    for document in build(folder):
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield document["metadata"]["name"], spec["template"]


def find_containers(folder: str = PRODUCTION) -> Iterator[dict[str, Any]]:
    for _, pod in find_pods(folder):
        yield from pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


@pytest.mark.parametrize("kubernetes", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_fits_the_published_schema(overlay: str, kubernetes: str) -> None:
    checked = 0
    for document in build(f"kubernetes/overlays/{overlay}"):
        if document["kind"] not in MONITORING:
            kubernetes_validate.validate(document, kubernetes, strict=True)
            checked += 1
    assert checked >= 10


def test_a_misspelt_field_is_detected() -> None:
    (document,) = [each for each in find("Deployment") if each["metadata"]["name"] == "outcomes"]
    wrong = json.loads(json.dumps(document).replace('"readinessProbe"', '"readynessProbe"'))
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_the_prometheus_operators_resources_have_the_fields_that_it_needs() -> None:
    for kind, fields in MONITORING.items():
        (document,) = find(kind)
        assert document["apiVersion"] == "monitoring.coreos.com/v1"
        assert fields["required"] <= document["spec"].keys() <= fields["known"]
    (monitor,) = find("ServiceMonitor")
    (service,) = find("Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {port["name"] for port in service["spec"]["ports"]} == {
        each["port"] for each in monitor["spec"]["endpoints"]
    }
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "outcomes"  # the job that the alerts name


def test_every_command_line_parses_and_every_setting_exists() -> None:
    known = NAMES.keys() | SYNC_NAMES.keys() | {f"{name}_FILE" for name in SECRETS | SYNC_SECRETS}
    lines = [container["args"] for container in find_containers() if "args" in container]
    assert {line[0] for line in lines} == {"serve", "migrate", "grant-service", "crm-sync"} <= outcomes.commands.keys()
    for line in lines:
        parse(line)
    for container in find_containers():
        assert {each["name"] for each in container["env"]} - {"HOME", "KEEP"} <= known


def test_the_release_is_named_in_the_images_and_in_the_migration_job() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        release = tomllib.load(file)["project"]["version"]
    assert version("formant-outcomes") == release
    images = {container["image"] for container in find_containers()}
    assert images == {f"registry.example.com/outcomes:{release}", "postgres:17"}
    (job,) = find("Job")
    assert job["metadata"]["name"] == f"outcomes-migrate-{release.replace('.', '-')}"


def test_only_migrations_and_backups_see_the_owners_secret() -> None:
    holders = {name for name, pod in find_pods() if '"outcomes-owner"' in json.dumps(pod)}
    assert holders == {
        f"outcomes-migrate-{version('formant-outcomes').replace('.', '-')}",
        "outcomes-backup",
        "outcomes-erasures",
    }
    (service,) = [pod for name, pod in find_pods() if name == "outcomes"]
    assert service["spec"]["volumes"][0]["secret"]["secretName"] == "outcomes-service"
    environ = {each["name"]: each.get("value") for each in service["spec"]["containers"][0]["env"]}
    assert environ["OUTCOMES_MIGRATE_ON_START"] == "0"


def test_every_container_is_confined() -> None:
    for name, pod in find_pods():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert container["resources"]["limits"]["memory"], name


def test_every_volume_is_mounted_and_every_mount_has_a_volume() -> None:
    claims = {claim["metadata"]["name"] for claim in find("PersistentVolumeClaim")}
    maps = {each["metadata"]["name"] for each in find("ConfigMap")}
    for name, pod in find_pods():
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        containers = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == volumes.keys(), name
        assert {
            each["persistentVolumeClaim"]["claimName"] for each in volumes.values() if "persistentVolumeClaim" in each
        } <= claims
        assert {each["configMap"]["name"] for each in volumes.values() if "configMap" in each} <= maps


def test_every_selector_finds_pods_and_every_pod_has_a_network_policy() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in find_pods()}
    service_labels = labels["outcomes"]
    (service,) = find("Service")
    (budget,) = find("PodDisruptionBudget")
    assert service["spec"]["selector"].items() <= service_labels.items()
    assert budget["spec"]["selector"]["matchLabels"].items() <= service_labels.items()
    policies = [policy["spec"] for policy in find("NetworkPolicy")]
    for policy in policies:
        assert any(policy["podSelector"]["matchLabels"].items() <= each.items() for each in labels.values()), policy
    for name, each in labels.items():
        named = [policy for policy in policies if policy["podSelector"]["matchLabels"].items() <= each.items()]
        assert len(named) == 2, name  # that of all pods, and its own
        assert {"Ingress", "Egress"} <= {kind for policy in named for kind in policy["policyTypes"]}, name


def test_the_public_ingress_leads_to_webhooks_alone() -> None:
    ingresses = {each["metadata"]["name"]: each["spec"] for each in find("Ingress")}
    public, inside = ingresses["outcomes-webhooks"], ingresses["outcomes"]
    paths = [path["path"] for rule in public["rules"] for path in rule["http"]["paths"]]
    assert paths == ["/webhooks/formant"]
    assert public["ingressClassName"] != inside["ingressClassName"]
    shown = [path["path"] for rule in inside["rules"] for path in rule["http"]["paths"]]
    assert "/metrics" not in shown
    for spec in ingresses.values():
        assert [rule["host"] for rule in spec["rules"]] == spec["tls"][0]["hosts"]


def test_every_probe_asks_for_a_path_that_is_served() -> None:
    source = (ROOT / "service" / "health.py").read_text()
    probes = [probe for container in find_containers() for name, probe in container.items() if name.endswith("Probe")]
    assert len(probes) == 3
    for probe in probes:
        assert f'"{probe["httpGet"]["path"]}"' in source


def test_the_backup_runs_the_script_that_is_tested() -> None:
    (script,) = [each["data"]["backup.sh"] for each in find("ConfigMap") if "backup.sh" in each["data"]]
    assert script == (ROOT / "deploy" / "backup" / "backup.sh").read_text()
    (command,) = [each["command"] for each in find_containers() if each["name"] == "backup"]
    assert command == ["sh", "/scripts/backup.sh", "/backups"]
    (erasures,) = [each["command"][-1] for each in find_containers() if each["name"] == "erasures"]
    for line in re.findall(r"outcomes ([a-z ]+) >", erasures):
        parse(line.split())
