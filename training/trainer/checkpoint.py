"""Checkpoints of a run, and its metrics file, which is truncated to the checkpoint on resuming.

A checkpoint is one file, replaced atomically. It needs no random state: every step and every example
seeds its own generator from (seed, position). See loop.py.
"""

import io
import json
from pathlib import Path
from typing import Any

import torch

from cluster.storage import write_atomic

LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"


def save_checkpoint(run_dir: Path, name: str, state: dict[str, Any]) -> None:
    """Save a state of tensors, numbers and text only, because it is loaded with weights_only."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(run_dir / "checkpoints" / name, buffer.getvalue())


def load_checkpoint(run_dir: Path, name: str) -> dict[str, Any] | None:
    """The saved state; None if there is none yet."""
    path = run_dir / "checkpoints" / name
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


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
    """All complete lines; reading ends at a truncated last line."""
    path = run_dir / METRICS
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
