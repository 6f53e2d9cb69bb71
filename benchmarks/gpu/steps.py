"""How the steps of a GPU check are run: skipped with a reason, or run, recorded at once and judged.

A step that fails costs none of the steps after it; a step that was skipped has proved nothing.
"""

import importlib.util
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from benchmarks.harness.record import Ceiling, capture_environment, write_record
from benchmarks.harness.thresholds import judge, read_bars

# A requirement answers with what is missing, or None.
Requirement = Callable[[], str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What a step found; `problems` are what must not be, whatever the thresholds say."""

    line: str
    """One short line for the terminal."""
    config: Mapping[str, object]
    metrics: Mapping[str, object]
    ceiling: Ceiling | None = None
    excluded: Sequence[str] = ()
    problems: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing to check; its record is called `gpu_<name>`."""

    name: str
    title: str
    needs: tuple[Requirement, ...]
    run: Callable[[], Measurement]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a step went; `record` is where its figures lie."""

    step: Step
    state: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float = 0.0
    record: Path | None = None
    trace: str = field(default="", repr=False)


def run_steps(steps: Sequence[Step], report: Callable[[Outcome], None]) -> list[Outcome]:
    """Run all, in order, and hand each outcome to `report` when it is there."""
    outcomes = []
    for step in steps:
        outcome = _run_step(step)
        report(outcome)
        outcomes.append(outcome)
    return outcomes


def _run_step(step: Step) -> Outcome:
    missing = [reason for need in step.needs if (reason := need()) is not None]
    if missing:
        return Outcome(step=step, state="skipped", detail="; ".join(missing))
    started = time.monotonic()
    try:
        measurement = step.run()
        record = write_record(
            f"gpu_{step.name}",
            config=measurement.config,
            metrics=measurement.metrics,
            ceiling=measurement.ceiling,
            excluded=measurement.excluded,
        )
    except Exception as error:  # noqa: BLE001 - whatever one step does, the others still run
        return Outcome(
            step=step,
            state="failed",
            detail=f"{type(error).__name__}: {error}",
            seconds=time.monotonic() - started,
            trace=traceback.format_exc(),
        )
    problems = [*measurement.problems, *_below_the_bars(step, measurement)]
    return Outcome(
        step=step,
        state="failed" if problems else "passed",
        detail="; ".join([measurement.line, *problems]),
        seconds=time.monotonic() - started,
        record=record,
    )


def _below_the_bars(step: Step, measurement: Measurement) -> list[str]:
    verdicts = judge(
        read_bars(),
        benchmark=f"gpu_{step.name}",
        hardware=str(capture_environment()["hardware"]),
        metrics=measurement.metrics,
    )
    return [
        f"{verdict.bar.metric} is {verdict.value}, it must be {verdict.bar.rule()}"
        for verdict in verdicts
        if verdict.state != "pass"
    ]


def needs_cuda() -> str | None:
    """A requirement: torch reaches a GPU."""
    return None if torch.cuda.is_available() else "no CUDA GPU"


def needs_packages(*modules: str) -> Requirement:
    """A requirement: these modules are installed; nothing is imported to find out."""

    def missing() -> str | None:
        names = [module for module in modules if not _is_installed(module)]
        return f"not installed: {', '.join(names)}" if names else None

    return missing


def needs_onnx_cuda() -> str | None:
    """A requirement: an ONNX Runtime that was built for CUDA."""
    if not _is_installed("onnxruntime"):
        return "not installed: onnxruntime"
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "onnxruntime has no CUDA provider (pip install onnxruntime-gpu)"
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is not there
        return False
