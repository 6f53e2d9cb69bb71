"""How a measurement becomes one JSON record: command, config, figures, ceiling and environment.

A record is written at once and whole; a number without its record does not go into a README.
"""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cluster.machine import Machine, describe_machine
from cluster.storage import write_atomic

REPOSITORY = Path(__file__).resolve().parent.parent.parent
IS_CHECKOUT = (REPOSITORY / "pyproject.toml").is_file()
"""False where the packages were installed from a wheel."""
# Installed packages are not a place to write to: their records go below the current folder.
RESULTS_DIR = (
    REPOSITORY / "benchmarks" / "results" if IS_CHECKOUT else Path("benchmarks", "results")
)
# Packages whose version can change a figure; those that are not installed are left out.
PACKAGES = (
    "av",
    "milvus-lite",
    "numba",
    "numpy",
    "nvidia-dali-cuda130",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python-headless",
    "pyarrow",
    "pymilvus",
    "ray",
    "tensorrt",
    "torch",
    "transformers",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """What repeated measurements came to; the first `warmup` of them were thrown away."""

    median: float
    p25: float
    p75: float
    n: int
    warmup: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """The physical limit that a figure stands beside, and how much of it was reached."""

    name: str
    value: float
    unit: str
    fraction: float


def summarize_samples(values: Sequence[float], *, warmup: int) -> Samples:
    """Median and quartiles of all but the first `warmup` values."""
    kept = list(values)[warmup:]
    if warmup < 0 or not kept:
        raise ValueError(f"warmup is {warmup} of {len(values)} values; at least one must remain")
    p25, median, p75 = (float(value) for value in np.percentile(kept, [25, 50, 75]))
    return Samples(median=median, p25=p25, p75=p75, n=len(kept), warmup=warmup)


def write_record(
    name: str,
    *,
    config: Mapping[str, object],
    metrics: Mapping[str, object],
    ceiling: Ceiling | None = None,
    excluded: Sequence[str] = (),
    command: str | None = None,
) -> Path:
    """Write `<name>_<hardware>_<yyyymmdd>_<sha7>.json` to $OUT or benchmarks/results/.

    A second run of the same day and commit gets a number behind its name; nothing is overwritten.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise ValueError(f"name is {name!r}; it must be lower-case letters, digits and _")
    now = datetime.now(UTC)
    environment = capture_environment()
    record = {
        "benchmark": name,
        "recorded_at": now.isoformat(timespec="seconds"),
        "command": _placeless(command or shlex.join(_typed(sys.argv))),
        "hardware": environment["hardware"],
        "config": {name: _placeless(value) for name, value in config.items()},
        "metrics": dict(metrics),
        "ceiling": ceiling,
        "excluded": list(excluded),
        "environment": environment,
    }
    commit = str(environment["git_commit"])[:7]
    path = _free_path(
        results_dir() / f"{name}_{environment['hardware']}_{now:%Y%m%d}_{commit}.json"
    )
    write_atomic(path, json.dumps(record, indent=2, default=plain_value, allow_nan=False) + "\n")
    return path


def _placeless(value: object) -> object:
    """Where a folder of this machine lies is nobody's business, and changes no figure: absolute paths keep their last name."""
    if not isinstance(value, (str, Path)):
        return value
    return " ".join(
        f".../{Path(word).name}" if Path(word).is_absolute() and Path(word).name else word
        for word in str(value).split(" ")
    )


def require_checkout(purpose: str) -> None:
    """ValueError where the packages were installed without the checkout that the purpose needs."""
    if not IS_CHECKOUT:
        raise ValueError(f"{purpose} needs the checkout of tfcovr; {REPOSITORY} is not one")


def results_dir() -> Path:
    """Where records go: the folder that the variable OUT names, else benchmarks/results/."""
    return Path(os.environ["OUT"]) if os.environ.get("OUT") else RESULTS_DIR


def read_records(folder: Path) -> list[dict]:
    """All records of a folder, oldest first."""
    records = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        missing = {"benchmark", "recorded_at", "hardware", "metrics"} - set(record)
        if missing:
            raise ValueError(f"{path}: not a record, it has no {', '.join(sorted(missing))}")
        records.append({**record, "file": path.name})
    return sorted(records, key=lambda record: record["recorded_at"])


def capture_environment() -> dict[str, object]:
    """What a figure depends on: commit, machine, package versions."""
    machine = describe_machine()
    commit, is_dirty = _git_state()
    return {
        "git_commit": commit,
        "git_is_dirty": is_dirty,
        "hardware": hardware_slug(machine),
        "cpu": machine.cpu,
        "num_cores": machine.num_cores,
        "memory_gib": machine.memory_gib,
        "gpus": [asdict(gpu) for gpu in machine.gpus],
        "python": machine.python,
        "system": machine.system,
        "packages": package_versions(),
    }


def hardware_slug(machine: Machine) -> str:
    """`nvidia-h200` with a GPU, else CPU and cores: `amd-epyc-9b14-2c`."""
    names = [gpu.name for gpu in machine.gpus]
    if names:
        return _slug(names[0]) + (f"-x{len(names)}" if len(names) > 1 else "")
    cpu = re.sub(r"\(r\)|\(tm\)|processor|cpu|@.*|\d+-core", " ", machine.cpu.lower())
    return f"{_slug(cpu) or 'cpu'}-{machine.num_cores}c"


def package_versions() -> dict[str, str]:
    """Versions of the installed ones among PACKAGES, read without importing them."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _typed(argv: Sequence[str]) -> list[str]:
    """A module of this checkout as `python -m NAME`, whatever folder the checkout lies in."""
    script = Path(argv[0]).resolve()
    if script.suffix != ".py" or not script.is_relative_to(REPOSITORY):
        return list(argv)
    name = ".".join(script.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__")
    return ["python", "-m", name, *argv[1:]]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _git_state() -> tuple[str, bool | None]:
    """Commit and whether tracked files differ from it. A copy names its commit: it has no .git, or that of an older one."""
    if named := os.environ.get("TFCOVR_COMMIT"):
        return named, None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return "unknown", None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    if not IS_CHECKOUT:  # a repository around the installed packages is another project's
        return None
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _free_path(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}_{number}")
    return free


def plain_value(value: object) -> object:
    """What json does not know by itself, as `default` of its writer: dataclasses, NumPy scalars and arrays, paths."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot go into a record: {value!r}")
