"""Records of how a bundle's encoder may run faster than in float32: target, limits and measured drift.

A record belongs to one device, one version of a library (TensorRT, or torch that compiles) and one set of the bundle's files; another
of any of them asks for another record.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args


class DriftError(ValueError):
    """The vectors of an encoder are too far from those of torch, or their drift was never measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """One encoder's distance from torch in float32. None = the bundle or the probe has nothing to measure it by."""

    min_cosine_clips: float
    mean_cosine_clips: float
    min_cosine_queries: float | None
    mean_cosine_queries: float | None
    top_k_overlap: float
    """Mean fraction of the nearest neighbours of each probe clip and query that both encoders agree on."""
    map_difference: float | None
    """mAP of the encoder minus mAP of torch, on the triplets of the probe, else on its labels."""
    map_of: str | None
    """What the mAP was measured on: `triplets` or `labels`."""
    top_k: int
    num_clips: int
    num_queries: int
    clips_from: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftLimits:
    """The drift that an encoder may have to index an archive."""

    min_cosine: float = 0.999
    """Lowest cosine of any clip or query; the canary check has the same limit."""
    mean_cosine: float = 0.9999
    top_k_overlap: float = 0.9
    """Least fraction of shared neighbours: those nearer to each other than the rounding may change places at the end of the list."""
    map_loss: float = 0.01

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie in [0, 1]")

    def problems(self, report: DriftReport) -> list[str]:
        """What is outside; a figure that is NaN is."""
        lower_bounds = {
            "min_cosine_clips": self.min_cosine,
            "min_cosine_queries": self.min_cosine,
            "mean_cosine_clips": self.mean_cosine,
            "mean_cosine_queries": self.mean_cosine,
            "top_k_overlap": self.top_k_overlap,
            "map_difference": -self.map_loss,
        }
        measured = {name: getattr(report, name) for name in lower_bounds}
        return [
            f"{name} is {measured[name]:.6f}, at least {bound:g} is needed"
            for name, bound in lower_bounds.items()
            if measured[name] is not None and not measured[name] >= bound
        ]


def check_drift(report: DriftReport | None, limits: DriftLimits, *, what: str) -> None:
    """DriftError when an encoder is outside the limits, or was not run (None)."""
    if report is None:
        raise DriftError(f"{what}: its drift was not run, so nothing may be indexed with it")
    problems = limits.problems(report)
    if problems:
        raise DriftError(
            f"{what}: too far from torch over {report.num_clips} clips ({report.clips_from}): {'; '.join(problems)}"
        )


Precision = Literal["fp32", "fp16", "bf16"]
PRECISION_NAMES: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""As rows say it."""
Reduced = Literal["most", "products"]
"""`most`: matrix products and the elementwise work that follows them; `products`: matrix products alone."""
REDUCED: tuple[Reduced, ...] = get_args(Reduced)
Library = Literal["tensorrt", "tensorrt-rtx", "torch"]
ANY_GPU = "any"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineTarget:
    """What an engine is built for."""

    library: Library
    version: str
    """Version of the library."""
    gpu: str
    """Name of the GPU; `any` for an engine that was built ahead of time for a compute capability, `cpu` for a CPU."""
    compute_capability: str
    """Compute capability of the GPU, such as `SM90`; of a CPU, the widest instructions that torch uses there."""

    def runs_on(self, here: "EngineTarget") -> bool:
        """Whether an engine for this target runs on a machine that is `here`."""
        same = (self.library, self.version, self.compute_capability)
        return same == (here.library, here.version, here.compute_capability) and self.gpu in (
            here.gpu,
            ANY_GPU,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRecord:
    """What was built of a bundle's files for one target and precision, or compiles there when it is opened."""

    target: EngineTarget
    precision: Precision
    """Precision: fp32, fp16 or bf16."""
    reduced: Reduced
    """What runs in that precision: `most` or `products`; an engine's norms are float32 always, its softmax in `products`."""
    max_batch_size: int
    """0 = any."""
    graphs: Mapping[str, str]
    """File of the bundle -> sha256 of what this was made from: ONNX graphs, or weights."""
    files: Mapping[str, str]
    """Engine file -> sha256 of its bytes, in the order of `graphs`; none of what compiles when it is opened."""
    drift: DriftReport | None
    """Drift of the engine from torch; None = not run."""
    onnx_drift: DriftReport | None
    """Drift of ONNX Runtime from torch on the same probe."""

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


def choose_engine(fitting: Sequence[EngineRecord], *, what: str) -> EngineRecord:
    """The first one inside the drift limits; DriftError when none is."""
    for engine in fitting:
        if engine.drift is not None and not DriftLimits().problems(engine.drift):
            return engine
    check_drift(fitting[0].drift, DriftLimits(), what=f"{what}: {fitting[0].line()}")
    raise AssertionError("check_drift refuses what the loop passed over")
