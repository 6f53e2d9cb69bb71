"""cluster/milvus against the Compose specification, and against the values that the Helm chart has."""

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from indexing.store.client import is_fixed_version

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "cluster" / "milvus"
_COUNT = {"type": "integer", "minimum": 1}
_AMOUNT = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Mi|Gi)?$"}
_AMOUNTS = {
    "type": "object",
    "properties": {"cpu": _AMOUNT, "memory": _AMOUNT},
    "additionalProperties": False,
}


def strict(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def one_of_its_parts(**more: Any) -> dict[str, Any]:
    amounts = strict(requests=_AMOUNTS, limits=_AMOUNTS)
    return strict(enabled={"type": "boolean"}, replicas=_COUNT, resources=amounts, **more)


_FLAG = strict(enabled={"type": "boolean"})
# The part of the values of chart 5.0.0 that a file of ours may use; a chart ignores a misspelt key without a word.
CHART_VALUES = strict(
    cluster=_FLAG,
    image=strict(
        all=strict(
            repository={"const": "milvusdb/milvus"},
            tag={"type": "string", "pattern": r"^v\d+\.\d+\.\d+$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        )
    ),
    extraConfigFiles={"type": "object", "additionalProperties": {"type": "string"}},
    service=strict(type={"enum": ["ClusterIP", "LoadBalancer", "NodePort"]}, port=_COUNT),
    metrics=_FLAG,
    streaming=_FLAG,
    streamingNode=one_of_its_parts(),
    queryNode=one_of_its_parts(),
    indexNode=one_of_its_parts(),
    dataNode=one_of_its_parts(),
    proxy=one_of_its_parts(),
    mixCoordinator=one_of_its_parts(activeStandby=_FLAG),
)


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((PLACE / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def values() -> dict:
    return yaml.safe_load((PLACE / "helm-values.yaml").read_text())


def test_compose_is_what_the_specification_allows(compose: dict) -> None:
    files = importlib.resources.files("check_jsonschema")
    text = (files / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
    schema = json.loads(text)
    jsonschema.validate(compose, schema)
    wrong = {**compose, "services": {"milvus": {"image": "a", "port": ["19530"]}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)  # the schema does bite


def test_compose_refers_only_to_what_it_has(compose: dict) -> None:
    services = compose["services"]
    for service in services.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] == "service_healthy"
            assert "healthcheck" in services[name]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]
    environment = services["milvus"]["environment"]
    for name in ("ETCD_ENDPOINTS", "MINIO_ADDRESS"):
        assert environment[name].partition(":")[0] in services


def test_nothing_of_compose_listens_beyond_loopback_or_has_a_known_password(compose: dict) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for name, value in service["environment"].items():
            if re.search("USER|PASSWORD|KEY", name):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value)


def test_helm_values_are_values_of_the_chart(values: dict) -> None:
    jsonschema.validate(values, CHART_VALUES)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "querynode": {"replicas": 3}}, CHART_VALUES)
    inner = yaml.safe_load(values["extraConfigFiles"]["user.yaml"])
    assert inner["common"]["security"]["authorizationEnabled"] is True
    assert values["mixCoordinator"]["activeStandby"]["enabled"] or (
        values["mixCoordinator"]["replicas"] == 1
    )


def test_both_name_a_release_without_known_holes_and_say_that_it_was_not_run(
    compose: dict, values: dict
) -> None:
    pinned = re.search(r"^milvus==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    image = compose["services"]["milvus"]["image"]
    tag = values["image"]["all"]["tag"]
    assert image == f"milvusdb/milvus:{tag}"
    assert is_fixed_version(tag)
    for name in ("compose.yaml", "helm-values.yaml"):
        text = (PLACE / name).read_text()
        assert "# Not run here: " in text
        assert f"Milvus {pinned[1]}, the last server that is a Python package" in text


def test_users_are_on_and_the_management_port_is_closed(compose: dict, values: dict) -> None:
    milvus = compose["services"]["milvus"]
    assert milvus["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"
    assert milvus["environment"]["COMMON_SECURITY_DEFAULTROOTPASSWORD"].startswith(
        "${MILVUS_ROOT_PASSWORD:?"
    )
    assert [port.split(":")[-1] for port in milvus["ports"]] == ["19530"]
    assert values["metrics"]["enabled"] is False  # the chart's services have port 9091 otherwise
