"""Parts of a GPU check: each is skipped with a reason, or runs, is recorded at once and judged.

A part that fails costs none of the parts after it; a part that was skipped has proved nothing.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from benchmarks.harness.parts import Part, PartFailedError, Requirement
from benchmarks.harness.record import Ceiling, capture_environment, write_record
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.thresholds import judge, read_bars


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


def gpu_part(
    name: str, title: str, needs: tuple[Requirement, ...], measure: Callable[[], Measurement]
) -> Part:
    """One thing to check; its record is called `gpu_<name>`."""

    def run() -> dict[str, object]:
        measurement = measure()
        record = write_record(
            f"gpu_{name}",
            config=measurement.config,
            metrics=measurement.metrics,
            ceiling=measurement.ceiling,
            excluded=measurement.excluded,
        )
        if problems := [*measurement.problems, *_below_the_bars(name, measurement)]:
            raise PartFailedError("; ".join([measurement.line, *problems]))
        return {"line": measurement.line, "record": record}

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
        read_bars(),
        benchmark=f"gpu_{name}",
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
