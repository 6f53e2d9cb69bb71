"""The run folder: config.json identifies its run, and result.json, written last, marks it as finished."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.storage import write_atomic
from encoders.files import read_json

logger = logging.getLogger(__name__)
CONFIG = "config.json"
RESULT = "result.json"
BUNDLE = "bundle"


def hash_file(path: str | Path) -> str:
    """SHA-256 of the whole content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_run(run_dir: Path, *, stage: str, config: Any, inputs: Mapping[str, str]) -> str:
    """Return the run's key, a hash of config and inputs; ValueError if the folder holds a run of another key.

    `inputs` maps the name of an input to a hash or id of its content, never to a path.
    """
    described = json.loads(
        json.dumps({"stage": stage, "config": asdict(config), "inputs": dict(inputs)})
    )
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    path = run_dir / CONFIG
    if path.exists():
        try:
            existing = read_json(path)
        except ValueError as error:
            raise ValueError(
                f"{error}; choose another --run-dir, or delete the folder {str(run_dir)!r} to train from the start"
            ) from error
        if existing.get("key") != key:
            changes = "; ".join(_differences(existing, described)) or "another version"
            raise ValueError(
                f"run folder {str(run_dir)!r} holds another run ({changes}); "
                "choose another --run-dir, or delete the folder"
            )
        return key
    write_atomic(path, json.dumps({"key": key, **described}, indent=2) + "\n")
    return key


def _differences(
    old_config: Mapping[str, Any], new_config: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    lines: list[str] = []
    for name in sorted(old_config.keys() | new_config.keys()):
        old, new = old_config.get(name), new_config.get(name)
        if old == new or (not prefix and name == "key"):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}: {old!r} there, {new!r} now")
    return lines


def read_result(run_dir: Path, key: str) -> dict[str, Any] | None:
    """The content of result.json; None while the run is not finished, and where the file is damaged."""
    path = run_dir / RESULT
    if not path.exists():
        return None
    try:
        result = read_json(path)
    except ValueError as error:
        logger.warning("%s; the run is finished again from its last checkpoint", error)
        return None
    return result if result.get("key") == key else None


def write_result(run_dir: Path, result: Mapping[str, Any]) -> None:
    """Mark the run as finished; nothing may be written after it."""
    write_atomic(run_dir / RESULT, json.dumps(dict(result), indent=2) + "\n")
