"""The image and the manifests of cluster/: against the linter, the schemas that they must have, and the project itself.

Pods are held to Kubernetes' own schema. KubeRay's kinds are in no package: the part of RayCluster, RayJob and RayService (v1) that files
of ours may use is restated here, strictly, since the server drops a misspelt field without a word.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay import autoscaling_config
from ray.serve.schema import ServeDeploySchema

import tfcovr
from indexing.serving import deploy
from indexing.serving.config import ServeConfig

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "cluster" / "kubernetes"
_COUNT = {"type": "integer", "minimum": 0}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}


def strict(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": list(required)}  # fmt: skip


_POD = {"type": "object"}  # has Kubernetes' own schema
_WORKERS = strict(
    "groupName", "template", "maxReplicas", "minReplicas",
    groupName={"type": "string"}, replicas=_COUNT, minReplicas=_COUNT, maxReplicas=_COUNT, rayStartParams=_TEXTS, template=_POD,
)  # fmt: skip
CLUSTER = strict(
    "headGroupSpec", "rayVersion",
    rayVersion={"type": "string"},
    authOptions=strict(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=strict(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=_COUNT),
    headGroupSpec=strict("template", rayStartParams=_TEXTS, template=_POD),
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)  # fmt: skip
SPECS = {
    "RayCluster": CLUSTER,
    "RayJob": strict(
        "entrypoint", "rayClusterSpec",
        entrypoint={"type": "string"}, submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        backoffLimit=_COUNT, shutdownAfterJobFinishes={"type": "boolean"}, ttlSecondsAfterFinished=_COUNT, rayClusterSpec=CLUSTER,
    ),
    "RayService": strict(
        "rayClusterConfig",
        upgradeStrategy=strict(type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}),
        serveConfigV2={"type": "string"}, rayClusterConfig=CLUSTER,
    ),
}  # fmt: skip


def schema_of(kind: str) -> dict[str, Any]:
    metadata = strict("name", name={"type": "string", "pattern": "^[a-z0-9-]+$"})
    return strict(
        "apiVersion", "kind", "metadata", "spec",
        apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=metadata, spec=SPECS[kind],
    )  # fmt: skip


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((PLACE / f"{name}.yaml").read_text())


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def templates_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = cluster_of(manifest)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def validate_pod(template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


MANIFESTS = ("raycluster", "rayjob", "rayservice")


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_has_the_fields_of_its_kind(name: str) -> None:
    manifest = load(name)
    schema = schema_of(manifest["kind"])
    jsonschema.validate(manifest, schema)
    wrong = deepcopy(manifest)
    cluster_of(wrong)["workerGroupSpec"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)  # the schema does bite
    for template in templates_of(manifest):
        validate_pod(template)
    wrong_pod = deepcopy(templates_of(manifest)[0])
    wrong_pod["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        validate_pod(wrong_pod)


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_pod_has_rights_that_it_does_not_need(name: str) -> None:
    for template in templates_of(load(name)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not any("value" in variable for variable in container.get("env", []))  # secrets
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_version_of_ray_is_that_of_the_image(name: str) -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster_of(load(name))["rayVersion"] == pinned[1]


def test_rays_autoscaler_reads_a_head_without_work_and_workers_that_come_and_go() -> None:
    cluster = load("raycluster")
    cluster["metadata"]["namespace"] = "default"
    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0
    assert {name: (kind["resources"]["CPU"], kind["resources"].get("GPU", 0)) for name, kind in types.items()} == {
        "cpu": (16, 0),
        "gpu": (16, 1),
    }  # fmt: skip
    assert all(kind["min_workers"] == 0 < kind["max_workers"] for kind in types.values())


def test_the_job_has_the_same_cluster_and_a_command_that_parses(monkeypatch) -> None:
    job = load("rayjob")
    assert cluster_of(job) == cluster_of(load("raycluster"))
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "tfcovr", "--log-json"]
    parsed = []
    monkeypatch.setattr(tfcovr, "run_command", lambda *command: parsed.append(command) or 0)
    assert tfcovr.main(words[3:]) == 0
    ((name, arguments),) = parsed
    _command, config = tfcovr.parse(name, arguments)
    assert str(config.run_dir).startswith("/shared/")  # every node has it


def test_the_service_is_what_ray_serve_accepts_with_options_of_tfcovr_serve() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(load("rayservice")["spec"]["serveConfigV2"]))  # fmt: skip
    (app,) = config.applications
    module, _, name = app.import_path.partition(":")
    assert module == deploy.__name__
    assert callable(getattr(deploy, name))
    assert set(app.args) <= {field.name for field in fields(ServeConfig)}
    ports = {
        port["containerPort"]
        for template in templates_of(load("rayservice"))
        for port in template["spec"]["containers"][0]["ports"]
        if port["name"] == "serve"
    }
    assert ports == {config.http_options.port}


DOCKERFILE = ROOT / "cluster" / "Dockerfile"
HADOLINT = str(Path(sys.executable).with_name("hadolint"))


def test_the_linter_has_nothing_to_say_of_the_image() -> None:
    def lint(text: str) -> list[str]:
        done = subprocess.run(
            [HADOLINT, "-"], input=text, capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()

    text = DOCKERFILE.read_text()
    assert lint(text) == []
    assert lint(text.replace(" --no-cache-dir", ""))  # the linter does bite


def test_the_image_is_built_of_what_the_checkout_has_and_runs_without_root() -> None:
    text = DOCKERFILE.read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", text, re.MULTILINE | re.DOTALL))  # fmt: skip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for target in ("cpu", "gpu"):
        assert re.search(r"^USER 1000$", stages[target], re.MULTILINE)
        install = re.search(r"--constraint (\S+) '\.\[([\w,]+)\]'", stages[f"build-{target}"])
        assert install is not None
        assert (ROOT / install[1]).exists()
        assert target in install[2].split(",")
        assert set(install[2].split(",")) <= set(project["optional-dependencies"])
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    ignored = (DOCKERFILE.parent / f"{DOCKERFILE.name}.dockerignore").read_text()
    kept = [line[1:] for line in ignored.splitlines() if line.startswith("!")]
    assert all(any(Path(name).match(pattern) for pattern in kept) for name in copied)
