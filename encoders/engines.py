"""Which TensorRT engines does a bundle hold, and which of them may run here? One record in the card for each, with its measured drift.

An engine belongs to one GPU model, one TensorRT version and one pair of graphs; another of any of them asks for another engine.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from encoders.drift import DriftReport

Library = Literal["tensorrt", "tensorrt-rtx"]
ANY_GPU = "any"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineTarget:
    """What an engine is built for."""

    library: Library
    version: str
    """Of the library."""
    gpu: str
    """Name of the GPU; `any` for an engine that was built ahead of time for a compute capability."""
    compute_capability: str
    """`SM90`."""

    def runs_on(self, here: "EngineTarget") -> bool:
        """Whether an engine for this target runs on a machine that is `here`."""
        same = (self.library, self.version, self.compute_capability)
        return same == (here.library, here.version, here.compute_capability) and self.gpu in (
            here.gpu,
            ANY_GPU,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRecord:
    """Engines of a bundle's graphs for one target and precision."""

    target: EngineTarget
    precision: str
    """fp32, fp16 or bf16."""
    reduced: str
    """What runs in that precision: `most` or `products`; norms and softmax are float32 always."""
    max_batch_size: int
    graphs: Mapping[str, str]
    """ONNX file -> sha256 of what the engine was built from."""
    files: Mapping[str, str]
    """Engine file -> sha256 of its bytes, in the order of `graphs`."""
    drift: DriftReport | None
    """Against torch; None = not run."""
    onnx_drift: DriftReport | None
    """ONNX Runtime against torch, on the same probe."""

    def line(self) -> str:
        """One line for a person."""
        name = f"{self.target.library} {self.target.version} on {self.target.gpu} ({self.target.compute_capability}), {self.precision}"
        if self.drift is None:
            return f"{name}: not run"
        return f"{name}: lowest cosine {self.drift.min_cosine_clips:.6f} over {self.drift.num_clips} clips ({self.drift.clips_from})"


def engine_name(graph_file: str, graph_sha256: str, target: EngineTarget, precision: str) -> str:
    """`video-nvidia-h200-sm90-tensorrt-11.4.0-fp16-1a2b3c4d.engine`."""
    parts = [graph_file.removesuffix(".onnx"), target.gpu, target.compute_capability]
    parts += [target.library, target.version, precision, graph_sha256[:8]]
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-") + ".engine"


def find_engines(
    engines: Sequence[EngineRecord], here: EngineTarget, files: Mapping[str, str]
) -> list[EngineRecord]:
    """Those that run `here` and were built from the bundle's own graphs (`files` of its card), fastest precision first."""
    order = ("fp16", "bf16", "fp32")
    fitting = [
        engine
        for engine in engines
        if engine.target.runs_on(here)
        and all(files.get(name) == sha256 for name, sha256 in engine.graphs.items())
    ]
    return sorted(fitting, key=lambda engine: order.index(engine.precision))


def engine_from_dict(values: Mapping[str, Any]) -> EngineRecord:
    """The inverse of `asdict`; TypeError for unknown or missing keys."""
    drifts = {
        name: None if values[name] is None else DriftReport(**values[name])
        for name in ("drift", "onnx_drift")
    }
    return EngineRecord(**{**values, **drifts, "target": EngineTarget(**values["target"])})
