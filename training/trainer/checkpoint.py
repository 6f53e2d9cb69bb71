"""Checkpoints of a run, and its metrics file, which is truncated to the checkpoint on resuming.

A checkpoint is one file, replaced atomically. It needs no random state: every step and every example
seeds its own generator from (seed, position). See loop.py. The one before it is kept, for a disk that damages the last.
"""

import errno
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from cluster.storage import atomic_path, is_full, write_atomic
from encoders.files import hash_file, parse_json

logger = logging.getLogger(__name__)
LAST = "last.pt"
BEFORE = "before.pt"
"""The checkpoint before the last."""
BEST = "best.pt"
CHECKSUMS = "sha256.json"
METRICS = "metrics.jsonl"


class CheckpointError(ValueError):
    """A checkpoint is damaged, and no other one can stand for it."""


def save_checkpoint(run_dir: Path, name: str, state: dict[str, Any]) -> None:
    """Save a state of tensors, numbers and text only, because it is loaded with weights_only."""
    folder = run_dir / "checkpoints"
    with atomic_path(folder / name) as temporary:  # to the disk at once: no second copy in memory
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch does not say what the system said
            if is_full(folder):
                raise OSError(
                    errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / name)
                ) from error
            raise
        sha256 = hash_file(temporary)
        # Before the file has its name: wherever an interruption falls, the checksum of every whole file is known.
        known = _checksums(folder)
        write_atomic(
            folder / CHECKSUMS, json.dumps({**known, name: [sha256, *known.get(name, [])[:2]]})
        )
        if name == LAST and (folder / LAST).exists():
            (folder / LAST).replace(folder / BEFORE)


def load_checkpoint(run_dir: Path, name: str) -> dict[str, Any] | None:
    """The saved state, for LAST that of the checkpoint before it where the last is damaged; None if there is none yet.

    CheckpointError where every checkpoint that is there is damaged.
    """
    folder = run_dir / "checkpoints"
    known = [sha256 for sums in _checksums(folder).values() for sha256 in sums]
    problems: list[str] = []
    for path in (folder / name, *([folder / BEFORE] if name == LAST else [])):
        if not path.exists():
            continue
        state, problem = _read(path, known)
        if state is not None:
            if problems:
                logger.warning("%s; using %s, the checkpoint before it", problems[0], path)
            return state
        problems.append(problem)
    if problems:
        raise CheckpointError(
            f"{'; '.join(problems)}; put a copy in its place, or delete the folder {str(folder)!r} to train from the start"
        )
    return None


def require_entries(state: dict[str, Any], names: Iterable[str], run_dir: Path) -> None:
    """CheckpointError where a checkpoint lacks one."""
    if lacking := sorted(set(names) - state.keys()):
        raise CheckpointError(
            f"a checkpoint in {run_dir / 'checkpoints'} is damaged: it lacks {', '.join(lacking)}; put a copy in its place, or delete the "
            "folder to train from the start"
        )


def _read(path: Path, known: list[str]) -> tuple[dict[str, Any] | None, str]:
    """The state, or None and what is wrong with the file."""
    sha256 = hash_file(path)
    if known and sha256 not in known:
        return None, f"checkpoint {path} is damaged or truncated (its sha256 is {sha256})"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  a file from before checksums: torch raises many kinds
        return None, f"checkpoint {path} is damaged or truncated ({str(error).splitlines()[0]})"
    if not isinstance(state, dict):
        return None, f"checkpoint {path} is damaged (it holds a {type(state).__name__})"
    return state, ""


def _checksums(folder: Path) -> dict[str, list[str]]:
    """Of the last files of each name, newest first; empty for a run from before checksums."""
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    try:
        sums = parse_json(path.read_bytes())
    except ValueError:
        sums = None
    if not isinstance(sums, dict) or not all(
        isinstance(of_name, list) for of_name in sums.values()
    ):
        logger.warning("%s is damaged; the checkpoints are read without their checksums", path)
        return {}
    return sums


class MetricsLog:
    """metrics.jsonl, one line per logged step and per epoch; opening it at a checkpoint's step drops later lines."""

    def __init__(self, run_dir: Path, *, after_step: int) -> None:
        self._path = run_dir / METRICS
        kept = [line for line in read_metrics(run_dir) if line["step"] <= after_step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def append(self, **values: float | str) -> None:
        """Append a line; `step` must be among the values."""
        with self._path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """All complete lines; reading ends at a truncated last line, or at a damaged one."""
    path = run_dir / METRICS
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for text in path.read_bytes().splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines
