"""Encoder throughput as a share of this machine's matrix rate; `python -m benchmarks.throughput.encode` writes one record per encoder.

torch eager in float32, torch.compile as the backend `compiled` runs it, and ONNX Runtime run in turns within each round, beside a
matrix product of the same dtype, so that what slows the machine slows all of them. With one thread the clock is the process's
CPU time. Weights are random: rates do not depend on them, and drifts say how far rounding alone leads. N clips, T frames, S frame side.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.record import Ceiling, Samples, summarize_samples, write_record
from benchmarks.harness.timing import host_clock, time_runs
from encoders.backends.onnx_backend import VIDEO_GRAPH, open_session
from encoders.bundle.engine_records import PRECISION_NAMES
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.export.onnx_export import write_graphs
from encoders.export.parity import cosines
from encoders.video_encoder.compiled import CompiledVideo
from encoders.video_encoder.config import PRESETS, TrainableConfig
from encoders.video_encoder.registry import build_video_encoder

Variant = Literal["eager", "compiled", "onnx", "compiled_bf16", "compiled_fp16"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
_WARMUP = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeConfig:
    """Measure encoders on this machine's CPU.

    Example: python -m benchmarks.throughput.encode --presets aim_vit_b16 --batch-sizes 1 2 --num-rounds 3
    """

    presets: tuple[str, ...] = ("aim_small", "frame_temporal_small")
    """Names of encoders; aim_vit_b16 needs about 4 s a clip on two cores."""
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    variants: tuple[Variant, ...] = VARIANTS
    num_rounds: int = 5
    """Rounds that count; one more goes before them."""
    num_threads: int = 0
    """CPU threads of each; 0 = what torch takes by itself."""
    matrix_size: int = 2048
    """Side of the matrices of the ceiling."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.presets) - set(PRESETS))
        if unknown:
            raise ValueError(f"presets has {unknown}; choose from {sorted(PRESETS)}")
        if not self.presets or not self.variants or min(self.batch_sizes, default=0) < 1:
            raise ValueError("presets, variants and batch_sizes need at least one entry, from 1 up")
        if self.num_rounds < 1 or self.matrix_size < 1 or self.num_threads < 0:
            raise ValueError(
                f"num_rounds is {self.num_rounds}, matrix_size {self.matrix_size}, num_threads {self.num_threads}; "
                "the first two must be at least 1, the last at least 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeFigures:
    """What one encoder came to: by variant and batch size, and the matrix rates between them."""

    gflop_per_clip: float
    clips_per_s: Mapping[tuple[Variant, int], Samples]
    min_cosine: Mapping[Variant, float]
    """Lowest cosine of a variant's vectors with those of `eager`, over all batches."""
    tflop_per_s: Mapping[str, float]
    """dtype -> the highest rate of a matrix product: a shared machine is slower at times, but a ceiling is never too low for it."""

    def share(self, variant: Variant, batch_size: int) -> float:
        """Of the matrix rate in the variant's own dtype."""
        rate = self.clips_per_s[variant, batch_size].median * self.gflop_per_clip / 1e3
        return rate / self.tflop_per_s[_dtype_name(variant)]

    def best(self, variant: Variant) -> int:
        """The batch size of the highest rate."""
        sizes = [size for name, size in self.clips_per_s if name == variant]
        return max(sizes, key=lambda size: self.clips_per_s[variant, size].median)


def count_gflop(config: TrainableConfig) -> float:
    """Matrix products and convolutions of one clip in GFLOP, multiply and add counted apart, attention included."""
    with torch.device("meta"):
        encoder = build_video_encoder(config).eval()
        shape = (1, config.num_frames, config.image_size, config.image_size, 3)
        frames_NTHWC = torch.zeros(shape, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(frames_NTHWC)
    return counter.get_total_flops() / 1e9


def measure_encoder(preset: str, config: EncodeConfig) -> EncodeFigures:
    """All variants and batch sizes in turns; compiling and the first round are not counted."""
    video = PRESETS[preset]
    torch.compiler.reset()  # past eight compiled versions of a module, those of an encoder before it too, torch stops compiling
    seconds: dict[tuple[Variant, int], list[float]] = {}
    min_cosine: dict[Variant, float] = {}
    clock_s = host_clock()
    tflop_per_s = dict.fromkeys(sorted({_dtype_name(name) for name in config.variants}), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        runners = _open(preset, config, Path(folder))
        shape = (video.num_frames, video.image_size, video.image_size, 3)
        rng = np.random.default_rng(0)
        batches = {
            size: rng.integers(0, 256, (size, *shape), np.uint8) for size in config.batch_sizes
        }
        for number in range(config.num_rounds + _WARMUP):
            for size, frames_NTHWC in batches.items():
                for dtype, highest in tflop_per_s.items():
                    tflop_per_s[dtype] = max(highest, _matrix_rate(dtype, config.matrix_size))
                for variant in _in_turn(config.variants, number):
                    started = clock_s()
                    runners[variant](frames_NTHWC)
                    seconds.setdefault((variant, size), []).append(clock_s() - started)
        reference = _open(preset, replace(config, variants=("eager",)), Path(folder))["eager"]
        for frames_NTHWC in batches.values():
            expected_ND = reference(frames_NTHWC)
            for variant, run in runners.items():
                lowest = float(cosines(expected_ND, run(frames_NTHWC)).min())
                min_cosine[variant] = min(lowest, min_cosine.get(variant, 1.0))
    return EncodeFigures(
        gflop_per_clip=count_gflop(video),
        clips_per_s={
            key: summarize_samples([key[1] / value for value in values], warmup=_WARMUP)
            for key, values in seconds.items()
        },
        min_cosine=min_cosine,
        tflop_per_s=tflop_per_s,
    )


def record_encoder(preset: str, config: EncodeConfig, figures: EncodeFigures) -> Path:
    """`encode_<preset>_*.json`: rates and shares by variant and batch size, the best of each, the matrix rates."""
    metrics: dict[str, Any] = {"gflop_per_clip": figures.gflop_per_clip}
    for (variant, size), rate in sorted(figures.clips_per_s.items()):
        metrics[f"{variant}_clips_per_s_batch_{size}"] = rate
        metrics[f"{variant}_share_batch_{size}"] = figures.share(variant, size)
    for variant in config.variants:
        size = figures.best(variant)
        metrics[f"{variant}_clips_per_s"] = figures.clips_per_s[variant, size].median
        metrics[f"{variant}_share"] = figures.share(variant, size)
        metrics[f"{variant}_best_batch"] = size
    metrics |= {f"{name}_min_cosine": lowest for name, lowest in figures.min_cosine.items()}
    if "eager" in config.variants:
        eager = figures.clips_per_s["eager", figures.best("eager")].median
        metrics |= {
            f"{name}_over_eager": metrics[f"{name}_clips_per_s"] / eager for name in config.variants
        }
    metrics |= {f"matrix_tflop_per_s_{name}": rate for name, rate in figures.tflop_per_s.items()}
    fastest = max(
        config.variants, key=lambda name: figures.clips_per_s[name, figures.best(name)].median
    )
    return write_record(
        f"encode_{preset}",
        config=asdict(config) | {"preset": preset, "threads": torch.get_num_threads()},
        metrics=metrics | {"fastest": fastest},
        ceiling=Ceiling(
            name=f"{_dtype_name(fastest)} matrix product with the same threads, the highest rate between the rounds",
            value=figures.tflop_per_s[_dtype_name(fastest)],
            unit="TFLOP/s",
            fraction=figures.share(fastest, figures.best(fastest)),
        ),
        excluded=["model load", "export", "compiling", f"first {_WARMUP} round", "decoding"],
    )


def _open(
    preset: str, config: EncodeConfig, folder: Path
) -> dict[Variant, Callable[[np.ndarray], np.ndarray]]:
    """A call for each variant: uint8 frames on the host in, vectors on the host out."""
    torch.manual_seed(0)
    save_bundle(folder / "bundle", video=build_video_encoder(PRESETS[preset]).eval())
    runners: dict[Variant, Callable[[np.ndarray], np.ndarray]] = {}
    for variant in config.variants:
        bundle = load_bundle(folder / "bundle")  # of its own: low precision changes the weights
        if variant == "onnx":
            write_graphs(bundle, folder)
            # Said aloud, the number of threads also keeps idle ones from spinning while the others are timed.
            session = open_session(folder / VIDEO_GRAPH, num_threads=torch.get_num_threads())
            runners[variant] = partial(_run_onnx, session)
        else:
            call = bundle.video.with_length
            if variant != "eager":
                call = CompiledVideo(bundle.video, getattr(torch, _dtype_name(variant)))
            runners[variant] = partial(_run_torch, call)
    return runners


def _run_onnx(session: Any, frames_NTHWC: np.ndarray) -> np.ndarray:
    return session.run(None, {"frames": frames_NTHWC})[0]


@torch.inference_mode()
def _run_torch(
    call: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], frames_NTHWC: np.ndarray
) -> np.ndarray:
    return call(torch.from_numpy(frames_NTHWC))[0].numpy()


def _matrix_rate(dtype: str, size: int) -> float:
    """TFLOP/s of the best of three products on random data."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(size, size, generator=generator).to(getattr(torch, dtype)) for _ in range(2)
    )
    seconds = time_runs(lambda: left @ right, torch.device("cpu"), num_runs=3)
    return 2 * size**3 / min(seconds) / 1e12


def _dtype_name(variant: Variant) -> str:
    return PRECISION_NAMES.get(variant.rpartition("_")[2], "float32")


def _in_turn(variants: Sequence[Variant], number: int) -> list[Variant]:
    """Another one begins in each round, so that none always follows the same neighbour."""
    first = number % len(variants)
    return [*variants[first:], *variants[:first]]


def summary_lines(preset: str, config: EncodeConfig, figures: EncodeFigures) -> list[str]:
    """One line for each variant at its best batch size."""
    return [
        f"{preset} {variant}: {figures.clips_per_s[variant, size].median:.4g} clips/s at batch {size}, "
        f"{100 * figures.share(variant, size):.1f} % of the {_dtype_name(variant)} matrix rate"
        for variant in config.variants
        for size in [figures.best(variant)]
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, record; records go to $OUT or benchmarks/results/."""
    config = tyro.cli(EncodeConfig, args=argv, prog="python -m benchmarks.throughput.encode")
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    for preset in config.presets:
        figures = measure_encoder(preset, config)
        path = record_encoder(preset, config, figures)
        sys.stdout.write("\n".join([*summary_lines(preset, config, figures), str(path)]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
