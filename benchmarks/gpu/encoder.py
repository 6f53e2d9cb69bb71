"""How fast a GPU encodes clips, beside how fast it multiplies matrices at all.

N clips, T frames, S side of a frame in pixels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from benchmarks.gpu.steps import Measurement
from benchmarks.harness.record import Ceiling, Samples, summarize_samples
from benchmarks.harness.timing import time_runs
from encoders.video_encoder.compiled import CompiledVideo
from encoders.video_encoder.config import PRESETS, AimConfig
from encoders.video_encoder.registry import build_video_encoder

BATCH_SIZES = (1, 16, 32, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class AimFlops:
    """Floating-point operations of one clip; multiply and add are counted apart."""

    linear: int
    """Patch embedding, projections, MLPs, adapters: what the weights do."""
    attention: int
    """The two products inside each attention: scores, and their use."""


def count_aim_flops(config: AimConfig) -> AimFlops:
    """From the shape alone; norms, activations and sums are left out (well under 1 %)."""
    width, num_tokens, num_frames = config.width, config.num_tokens, config.num_frames
    adapter = 2 * 2 * width * int(width * config.adapter_ratio)
    one_attention = 2 * 4 * width**2  # query, key, value and output projections
    mlp = 2 * 2 * 4 * width**2
    per_token = 2 * one_attention + mlp + 3 * adapter  # over time, over space; three adapters
    patches = 2 * (num_tokens - 1) * 3 * config.patch_size**2 * width
    over_space = num_frames * 2 * 2 * num_tokens**2 * width
    over_time = num_tokens * 2 * 2 * num_frames**2 * width
    return AimFlops(
        linear=num_frames * (patches + config.depth * num_tokens * per_token),
        attention=config.depth * (over_space + over_time),
    )


def matmul_rate(device: torch.device, *, size: int, num_runs: int, warmup: int) -> Samples:
    """TFLOP/s of size x size x size in bf16, on random data: zeros would draw less power and look faster."""
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, generator=generator, device=device).to(torch.bfloat16)
        for _ in range(2)
    )
    out = torch.empty_like(left)
    seconds = time_runs(
        lambda: torch.matmul(left, right, out=out), device, num_runs=num_runs + warmup
    )
    return summarize_samples([2 * size**3 / value / 1e12 for value in seconds], warmup=warmup)


def measure_matmul(device: torch.device, *, size: int = 8192) -> Measurement:
    """The ceiling of all the rates below."""
    rate = matmul_rate(device, size=size, num_runs=20, warmup=5)
    return Measurement(
        line=f"{rate.median:.3g} TFLOP/s",
        config={"size": size, "dtype": "bfloat16", "data": "random"},
        metrics={"tflop_per_s": rate},
        excluded=["first 5 products"],
    )


def measure_encode(
    device: torch.device,
    *,
    preset: str = "aim_vit_b16",
    batch_sizes: Sequence[int] = BATCH_SIZES,
    matmul_size: int = 8192,
    num_runs: int = 10,
) -> Measurement:
    """Clips per second in bf16 by batch size, frames already on the device, weights random.

    What runs is what `tfcovr index --backend compiled` runs, and eager beside it at the batch that was best.
    """
    config = PRESETS[preset]
    if not isinstance(config, AimConfig):
        raise ValueError(f"preset is {preset!r}; FLOP counting knows AIM only")
    flops = count_aim_flops(config)
    eager = build_video_encoder(config).to(device, torch.bfloat16).eval()
    compiled = CompiledVideo(eager, torch.bfloat16)
    rates: dict[int, Samples] = {}
    for batch_size in batch_sizes:
        frames_NTHWC = _random_frames(config, batch_size, device)
        try:
            seconds = time_runs(
                lambda frames=frames_NTHWC: compiled(frames), device, num_runs=num_runs + 3
            )
        except torch.OutOfMemoryError:
            break
        rates[batch_size] = summarize_samples([batch_size / value for value in seconds], warmup=3)
    if not rates:
        raise MemoryError(f"{preset} does not fit on {device} with {batch_sizes[0]} clips")
    ceiling = matmul_rate(device, size=matmul_size, num_runs=10, warmup=5).median
    best = max(rates, key=lambda batch_size: rates[batch_size].median)
    best_rate = rates[best].median
    frames_NTHWC = _random_frames(config, best, device)
    with torch.inference_mode():
        seconds = time_runs(lambda: eager(frames_NTHWC), device, num_runs=num_runs + 3)
    eager_rate = summarize_samples([best / value for value in seconds], warmup=3)
    achieved = best_rate * flops.linear / 1e12
    return Measurement(
        line=f"{best_rate:,.4g} clips/s at batch {best}, {100 * achieved / ceiling:.1f} % of the matmul rate",
        config={
            "preset": preset,
            "video": asdict(config),
            "dtype": "bfloat16",
            "mode": "compiled",
            "gflop_per_clip_linear": flops.linear / 1e9,
            "gflop_per_clip_attention": flops.attention / 1e9,
        },
        metrics={
            "clips_per_s": rates[best],
            "best_batch_size": best,
            "eager_clips_per_s": eager_rate,
            "achieved_tflop_per_s": achieved,
            "fraction_of_matmul": achieved / ceiling,
            **{f"clips_per_s_batch_{size}": rate for size, rate in rates.items()},
        },
        ceiling=Ceiling(
            name="bf16 matmul on this device",
            value=ceiling,
            unit="TFLOP/s",
            fraction=achieved / ceiling,
        ),
        excluded=[
            "model load and compiling",
            "frames to the device",
            "first 3 batches of each size",
            "attention products are not counted as work done",
        ],
    )


def _random_frames(config: AimConfig, num_clips: int, device: torch.device) -> torch.Tensor:
    shape = (num_clips, config.num_frames, config.image_size, config.image_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
