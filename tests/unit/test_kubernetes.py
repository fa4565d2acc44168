"""The manifests in docs/kubernetes: of Kubernetes' schemas, and of what tickcast takes."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tickcast.cli import running
from tickcast.cli.options import read_config
from tickcast.config import Config

FOLDER = Path(__file__).parents[2] / "docs" / "kubernetes"
VERSIONS = ("1.33", "1.37")
COMMANDS = {"process": running.process, "gateway": running.gateway}


def manifests() -> list[dict[str, Any]]:
    return [part for path in sorted(FOLDER.glob("*.yaml")) for part in yaml.safe_load_all(path.read_text("utf-8"))]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


WORKLOADS = {**of_kind("StatefulSet"), **of_kind("Deployment")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_manifests_are_of_the_schema(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_manifest_is_refused() -> None:
    wrong = of_kind("Deployment")["tickcast-gateway"]
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def effective(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Config:
    """Return the configuration that a workload's command, variables and file make."""
    container = WORKLOADS[name]["spec"]["template"]["spec"]["containers"][0]
    shared = of_kind("ConfigMap")["tickcast"]["data"]
    monkeypatch.delenv("TICKCAST_GRPC_PORT", raising=False)  # the tests' own
    values = {}
    for variable in container["env"]:
        origin = variable["valueFrom"]
        values[variable["name"]] = shared[origin["configMapKeyRef"]["key"]] if "configMapKeyRef" in origin else "secret"
    for variable, value in values.items():
        if variable.startswith("TICKCAST_"):
            monkeypatch.setenv(variable, value)
    file = folder / "tickcast.toml"
    file.write_text(shared["tickcast.toml"])
    args = [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], arg) for arg in container["args"]]
    args = [arg.replace("/etc/tickcast/tickcast.toml", str(file)) for arg in args]
    assert container["command"] == ["tickcast"]
    context = COMMANDS[args[0]].make_context(args[0], args[1:])
    return read_config(context.params)


def test_commands_and_variables_are_those_of_tickcast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor = effective("tickcast-processor", monkeypatch, tmp_path)
    gateway = effective("tickcast-gateway", monkeypatch, tmp_path)
    assert processor.sinks == (gateway.source,)
    assert processor.grpc.port == 50_051
    assert gateway.web.host == "0.0.0.0"
    assert gateway.web.auth_token == "secret"
    assert (processor.tape.bytes, gateway.tape.bytes) == (4 * 2**30, 8 * 2**30)
    assert processor.window.hold == "25m"


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_belongs_together_matches(name: str) -> None:
    labels = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
    assert WORKLOADS[name]["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels
    assert [s for s in of_kind("Service").values() if s["spec"]["selector"] == labels]
    spec = WORKLOADS[name]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    claims = [claim["metadata"]["name"] for claim in WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])]
    volumes = {volume["name"] for volume in spec["volumes"]} | set(claims)
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_probes_ask_what_the_gateway_answers() -> None:
    from tickcast.gateway.health import health, ready

    container = WORKLOADS["tickcast-gateway"]["spec"]["template"]["spec"]["containers"][0]
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/health/ready"}
    assert {next(iter(handler.paths)) for handler in (health, ready)} == set(paths.values())
