"""Whose run is in this folder, and is it done? config.json says the first, result.json, written last, the second."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.storage import write_atomic

CONFIG = "config.json"
RESULT = "result.json"
BUNDLE = "bundle"


def hash_file(path: str | Path) -> str:
    """Of every byte."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_run(run_dir: Path, *, stage: str, config: Any, inputs: Mapping[str, str]) -> str:
    """The run's key: a hash of config and inputs. ValueError if the folder holds a run of another key.

    `inputs` maps the name of an input to what identifies its content, never to a path.
    """
    described = json.loads(
        json.dumps({"stage": stage, "config": asdict(config), "inputs": dict(inputs)})
    )
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    path = run_dir / CONFIG
    if path.exists():
        found = json.loads(path.read_text())
        if found.get("key") != key:
            changes = "; ".join(_differences(found, described)) or "another version"
            raise ValueError(
                f"run folder {str(run_dir)!r} holds another run ({changes}); "
                "choose another --run-dir, or delete the folder"
            )
        return key
    write_atomic(path, json.dumps({"key": key, **described}, indent=2) + "\n")
    return key


def _differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    lines: list[str] = []
    for name in sorted(found.keys() | wanted.keys()):
        old, new = found.get(name), wanted.get(name)
        if old == new or (not prefix and name == "key"):
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}: {old!r} there, {new!r} now")
    return lines


def read_result(run_dir: Path, key: str) -> dict[str, Any] | None:
    """None while the run is not done."""
    path = run_dir / RESULT
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    return result if result.get("key") == key else None


def write_result(run_dir: Path, result: Mapping[str, Any]) -> None:
    """The mark of the end; nothing may be written after it."""
    write_atomic(run_dir / RESULT, json.dumps(dict(result), indent=2) + "\n")
