"""ray_cluster.yaml against Ray's own schema, and against what this project really has."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cluster() -> dict:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


@pytest.fixture(scope="module")
def schema() -> dict:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())


def test_it_is_what_ray_accepts(cluster: dict, schema: dict) -> None:
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "worker_nodes": 3}, schema)  # the schema does bite


def test_a_head_and_gpu_workers_that_come_and_go(cluster: dict) -> None:
    types = dict(cluster["available_node_types"])
    head = types.pop(cluster["head_node_type"])
    assert "GPU" not in head["resources"]
    (worker,) = types.values()
    assert worker["resources"]["GPU"] >= 1
    assert worker["min_workers"] == 0 < worker["max_workers"] <= cluster["max_workers"]


def test_the_nodes_install_what_the_project_has(cluster: dict) -> None:
    (mount,) = [remote for remote, local in cluster["file_mounts"].items() if local == "."]
    commands = [
        command for name in ("", "head_", "worker_") for command in cluster[f"{name}setup_commands"]
    ]
    installs = [command for command in commands if "-e " in command]
    assert installs
    folder = mount.replace("/home/" + cluster["auth"]["ssh_user"], "~")
    assert all(command.startswith(f"cd {folder} && ") for command in installs)
    extras = re.findall(r"\.\[(\w+)\]", "\n".join(installs))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras == ["cpu", "gpu"]
    assert set(extras) <= set(project["optional-dependencies"])
    assert all((ROOT / name).exists() for name in re.findall(r"-c (\S+)", "\n".join(installs)))


def test_nothing_big_and_no_history_goes_to_the_nodes(cluster: dict) -> None:
    assert {".git", ".venv*", "runs"} <= set(cluster["rsync_exclude"])
