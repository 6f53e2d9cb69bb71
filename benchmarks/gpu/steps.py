"""Parts of a GPU check: each is skipped with a reason, or runs, goes into the record of the whole check at once, and is judged.

A part that fails costs none of the parts after it; a part that was skipped has proved nothing.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.harness.parts import Part, PartFailedError, Requirement
from benchmarks.harness.record import Ceiling, Samples, capture_environment, write_record
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.thresholds import judge, read_bars
from encoders.backends.tensorrt_library import MODULES, runs_rtx

RECORD = "gpu_check"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What was measured; `problems` fail the part, whatever the thresholds say."""

    line: str
    """One short line for the terminal."""
    config: Mapping[str, object]
    metrics: Mapping[str, object]
    ceiling: Ceiling | None = None
    excluded: Sequence[str] = ()
    problems: Sequence[str] = ()


@dataclass(kw_only=True, slots=True)
class CheckRecord:
    """One JSON record, `gpu_check`, of all parts so far; written again after each, so that an end at any time leaves what was measured."""

    parts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each part: line, config, metrics, ceiling, excluded."""
    path: Path | None = None

    def add(self, name: str, figures: Mapping[str, Any]) -> None:
        """Another part, or the same one again."""
        self.parts[name] = figures
        metrics = {
            f"{part}_{metric}": value
            for part, of_part in self.parts.items()
            for metric, value in of_part["metrics"].items()
        }
        about = {
            part: {key: value for key, value in of_part.items() if key != "metrics"}
            for part, of_part in self.parts.items()
        }
        path = write_record(RECORD, config=about, metrics=metrics)
        self.path = path if self.path is None else path.replace(self.path)


def gpu_part(
    record: CheckRecord,
    name: str,
    title: str,
    needs: tuple[Requirement, ...],
    measure: Callable[[], Measurement],
) -> Part:
    """One thing to check."""

    def run() -> dict[str, object]:
        measurement = measure()
        figures = {key: value for key, value in asdict(measurement).items() if key != "problems"}
        record.add(name, figures)
        if problems := [*measurement.problems, *_below_the_bars(name, measurement)]:
            raise PartFailedError("; ".join([measurement.line, *problems]))
        return figures

    return Part(
        name=name, title=title, needs=needs, run=run, describe=lambda figures: figures["line"]
    )


def measure_registered(name: str) -> Measurement:
    """A benchmark of the registry with the defaults of its config."""
    module = importlib.import_module(BENCHMARKS[name].module)
    config = module.Config()
    metrics = module.measure(config)
    line = ", ".join(f"{key} {value}" for key, value in metrics.items())
    return Measurement(line=line, config=asdict(config), metrics=metrics)


def _below_the_bars(name: str, measurement: Measurement) -> list[str]:
    verdicts = judge(
        [bar for bar in read_bars() if bar.metric.startswith(f"{name}_")],
        benchmark=RECORD,
        hardware=str(capture_environment()["hardware"]),
        metrics={
            f"{name}_{metric}": value.median if isinstance(value, Samples) else value
            for metric, value in measurement.metrics.items()
        },
    )
    return [
        f"{verdict.bar.metric} is {verdict.value}, it must be {verdict.bar.rule()}"
        for verdict in verdicts
        if verdict.state != "pass"
    ]


NO_TIME = "no time left"


def needs_time(end_s: float, expected_s: float) -> Requirement:
    """A requirement: so many seconds before `time.monotonic()` says `end_s`. What had none runs when the command runs again."""

    def missing() -> str | None:
        left_s = end_s - time.monotonic()
        return None if left_s >= expected_s else f"{NO_TIME}: {left_s:.0f} of {expected_s:.0f} s"

    return missing


def needs_cuda() -> str | None:
    """A requirement: torch reaches a GPU."""
    return None if torch.cuda.is_available() else "no CUDA GPU"


def needs_packages(*modules: str) -> Requirement:
    """A requirement: these modules are installed; nothing is imported to find out."""

    def missing() -> str | None:
        names = [module for module in modules if not _is_installed(module)]
        return f"not installed: {', '.join(names)}" if names else None

    return missing


def needs_tensorrt() -> str | None:
    """A requirement: a TensorRT that runs on this GPU."""
    if usable_tensorrt():
        return None
    if _is_installed(MODULES["tensorrt-rtx"]):
        return "not installed: tensorrt; TensorRT for RTX does not support this GPU"
    return f"not installed: {' or '.join(MODULES.values())}"


def usable_tensorrt() -> Literal["tensorrt", "tensorrt-rtx"] | None:
    """The library that a check takes; TensorRT before TensorRT for RTX, which does not support every GPU."""
    if _is_installed(MODULES["tensorrt"]):
        return "tensorrt"
    has_rtx = _is_installed(MODULES["tensorrt-rtx"]) and torch.cuda.is_available()
    return "tensorrt-rtx" if has_rtx and runs_rtx(torch.cuda.get_device_capability()) else None


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
