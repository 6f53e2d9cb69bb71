"""TensorRT engines of a bundle: built from its ONNX graphs, measured against torch, added only inside the drift limits.

The same Builder and OnnxParser code serves `tensorrt` (on the GPU it builds for) and TensorRT for RTX, which builds ahead of time
for a compute capability on a machine without a GPU; such an engine's drift is "not run" until a GPU has measured it.
N clips or queries, L tokens.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from encoders.backends.base import FUSION_GRAPH, VIDEO_GRAPH, graph_names
from encoders.backends.onnx_backend import read_graph
from encoders.backends.registry import open_backend
from encoders.backends.tensorrt_library import MODULES, import_library, local_target
from encoders.bundle.card import BundleCard, BundleMismatchError, check_file, read_card
from encoders.bundle.engine_records import (
    ANY_GPU,
    REDUCED,
    DriftError,
    DriftLimits,
    DriftReport,
    EngineRecord,
    EngineTarget,
    Library,
    Precision,
    Reduced,
    engine_name,
)
from encoders.export.drift import Probe, measure_drift
from encoders.export.engine_files import add_engine, replace_file
from encoders.export.precision import reduce_precision

logger = logging.getLogger(__name__)


Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> its smallest, usual and largest shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """Options of the engines to build."""

    library: Library = "tensorrt"
    precision: Precision = "fp16"
    max_batch_size: int = 64
    compute_capability: str | None = None
    """Build ahead of time for it (`SM89`, TensorRT for RTX only); None = for the GPU of this machine."""

    def __post_init__(self) -> None:
        if self.library not in MODULES:
            raise ValueError(f"library is {self.library!r}; choose one of {sorted(MODULES)}")
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"precision is {self.precision!r}; choose one of {get_args(Precision)}"
            )
        if self.max_batch_size < 1:
            raise ValueError(f"max_batch_size is {self.max_batch_size}; it must be at least 1")
        if self.compute_capability is not None and self.library != "tensorrt-rtx":
            raise ValueError(
                f"compute_capability is {self.compute_capability!r}; only TensorRT for RTX builds ahead of time"
            )


class EngineBuildError(ValueError):
    """TensorRT refused a graph; nothing was added to the bundle."""


def engine_shapes(card: BundleCard, graph_file: str, max_batch_size: int) -> Shapes:
    """Every batch from 1 to `max_batch_size` and every text length, tuned for whole batches of clips, as indexing sends them, and for
    half batches and half texts of queries.
    """
    is_video = graph_file == VIDEO_GRAPH
    batches = (1, max_batch_size if is_video else max(max_batch_size // 2, 1), max_batch_size)
    if graph_file == VIDEO_GRAPH:
        size = card.sampling.frame_size
        assert size is not None
        frame = (card.sampling.num_frames, size, size, 3)
        return {"frames": tuple((batch, *frame) for batch in batches)}  # pyright: ignore[reportReturnType]
    assert card.text is not None
    assert card.fusion is not None
    if graph_file == FUSION_GRAPH:
        widths = {"clip_vector": card.fusion.video_dim, "text_vector": card.fusion.text_dim}
        return {name: tuple((batch, width) for batch in batches) for name, width in widths.items()}  # pyright: ignore[reportReturnType]
    counts, most = card.text.num_count_columns, card.text.max_tokens
    tokens = (counts + 1, counts + max(most // 2, 1), counts + most)
    pairs = tuple(zip(batches, tokens, strict=True))
    return {"input_ids": pairs, "attention_mask": pairs}  # pyright: ignore[reportReturnType]


def build_engine(
    library: Any,
    graph: bytes,
    shapes: Shapes,
    *,
    compute_capability: str | None = None,
    timing_cache: Path | None = None,
) -> bytes:
    """The engine of a graph. `library` is the imported module; `timing_cache` is read and written where the library keeps one."""
    log = _collect_errors(library)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise EngineBuildError(f"TensorRT can't parse the graph: {'; '.join(errors)}")
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)  # what the graph calls float32 is float32
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(profile)
    if compute_capability is not None:
        _set_capability(library, config, compute_capability)
    cache = None
    if timing_cache is not None:
        cached = timing_cache.read_bytes() if timing_cache.exists() else b""
        cache = config.create_timing_cache(cached)
        config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildError(f"TensorRT can't build the graph: {'; '.join(log.errors[-3:])}")
    if cache is not None and timing_cache is not None:
        timings = config.get_timing_cache()
        if timings is not None:  # None after a cache of another version or GPU
            replace_file(timing_cache, bytes(timings.serialize()))
    return bytes(plan)


def add_engines(bundle_dir: Path, probe: Probe, options: EngineOptions) -> EngineRecord:
    """Build, measure, add; an engine of the same target and precision is replaced.

    fp16 and bf16 first round the elementwise work too; where that drifts too far, matrix products alone.
    """
    card = read_card(bundle_dir)
    if options.compute_capability is not None:
        record, plans = _build(bundle_dir, card, engine_target(options), options, REDUCED[0])
        return add_engine(bundle_dir, record, plans)
    problems: list[str] = []
    for reduced in REDUCED if options.precision != "fp32" else REDUCED[:1]:
        record, plans = _build(bundle_dir, card, engine_target(options), options, reduced)
        reports = _measure(bundle_dir, card, record, plans, probe)
        problems = DriftLimits().problems(reports["engine"])
        if not problems:
            measured = replace(record, drift=reports["engine"], onnx_drift=reports["onnx"])
            return add_engine(bundle_dir, measured, plans)
        logger.warning("%s, %s in low precision: %s", options.precision, reduced, problems)
    raise DriftError(
        f"{bundle_dir}: an engine in {options.precision} is too far from torch over {len(probe.frames_NTHWC)} clips "
        f"({probe.source}), so nothing was added: {'; '.join(problems)}"
    )


def _build(
    bundle_dir: Path,
    card: BundleCard,
    target: EngineTarget,
    options: EngineOptions,
    reduced: Reduced,
) -> tuple[EngineRecord, dict[str, bytes]]:
    graphs = _graph_files(bundle_dir, card)
    plans = {
        name: build_engine(
            import_library(options.library),
            _read_reduced(bundle_dir / name, options.precision, reduced),
            engine_shapes(card, name, options.max_batch_size),
            compute_capability=options.compute_capability,
            timing_cache=_cache_path(bundle_dir, target),
        )
        for name in graphs
    }
    record = EngineRecord(
        target=target,
        precision=options.precision,
        reduced=reduced,
        max_batch_size=options.max_batch_size,
        graphs=graphs,
        files={},
        drift=None,
        onnx_drift=None,
    )
    return record, plans


def _measure(
    bundle_dir: Path,
    card: BundleCard,
    record: EngineRecord,
    plans: Mapping[str, bytes],
    probe: Probe,
) -> dict[str, DriftReport]:
    from encoders.backends.tensorrt_backend import EngineEncoder

    engine = EngineEncoder(bundle_dir, card, record, plans, device="cuda")
    candidates = {"onnx": open_backend(bundle_dir, "onnx"), "engine": engine}
    return measure_drift(open_backend(bundle_dir, "torch", device="cuda"), candidates, probe)


def engine_target(options: EngineOptions) -> EngineTarget:
    """What its engines will run on; ValueError or ImportError where they cannot be built here."""
    if options.compute_capability is None:
        return local_target(options.library)
    return EngineTarget(
        library=options.library,
        version=str(import_library(options.library).__version__),
        gpu=ANY_GPU,
        compute_capability=options.compute_capability,
    )


def _graph_files(bundle_dir: Path, card: BundleCard) -> dict[str, str]:
    names = graph_names(card)
    missing = [name for name in names if name not in card.files]
    if missing:
        raise BundleMismatchError(
            f"{bundle_dir} has no {missing[0]}; write it with: tfcovr export --bundle {bundle_dir}"
        )
    for name in names:
        check_file(bundle_dir, card, name)
    return {name: card.files[name] for name in names}


def _read_reduced(path: Path, precision: Precision, reduced: Reduced) -> bytes:
    return reduce_precision(read_graph(path), precision, reduced=reduced).SerializeToString()


def _cache_path(bundle_dir: Path, target: EngineTarget) -> Path | None:
    """Beside the bundle, not in it; TensorRT for RTX times kernels where it runs and keeps no such cache."""
    if target.library != "tensorrt":
        return None
    name = engine_name("timing.onnx", "", target, "cache").removesuffix(".engine")
    return bundle_dir.with_name(f".{name}")


def _set_capability(library: Any, config: Any, name: str) -> None:
    targets = [name for name in dir(library.ComputeCapability) if name.startswith("SM")]
    if name not in targets:
        raise ValueError(f"compute_capability is {name!r}; this library builds for {targets}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(library.ComputeCapability, name), 0)


def _collect_errors(library: Any) -> Any:
    """A logger for TensorRT that keeps its errors; the rest goes to ours."""

    class Log(library.ILogger):
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            logger.debug("%s", message)

    return Log()
