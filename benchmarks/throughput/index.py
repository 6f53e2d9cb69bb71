"""The indexing benchmark: every rate beside its limit; `python -m benchmarks.throughput.index` writes one record.

Resumable: rerun the same command after an interruption; finished parts are not measured again. A quiet machine of two cores needs
about 40 minutes; `--scale 0.02 --num-rounds 2` shows whether everything runs.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
import tyro
from rich.console import Console

from benchmarks.harness.parts import Part, PartRunner, hash_code
from benchmarks.harness.record import write_record
from benchmarks.throughput.decode import measure_decode
from benchmarks.throughput.decode_peers import missing_peers
from benchmarks.throughput.end_to_end import measure_flow
from benchmarks.throughput.growth import measure_growth, measure_write
from encoders.bundle.folder import save_bundle
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.video_encoder.config import PRESETS, AimConfig
from encoders.video_encoder.registry import build_video_encoder

PartName = Literal["decode", "flow", "growth", "write"]
# Expected on two cores.
_MINUTES: dict[PartName, float] = {"decode": 12, "flow": 12, "growth": 14, "write": 3}
_GROWTH_ENCODER = AimConfig(
    num_frames=4, image_size=32, patch_size=16, width=16, depth=2, num_heads=2
)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBenchmark:
    """Measure indexing part by part: decode, flow (end to end), growth, write."""

    parts: tuple[PartName, ...] = get_args(PartName)
    """What to measure."""
    work_dir: Path = Path("runs/index_benchmark")
    """Archives and the figures of finished parts; deleted when the record is written."""
    num_rounds: int = 5
    """Interleaved rounds of decode whose median counts, of decode after one that warms up."""
    scale: float = 1.0
    """Size of the archives; below 1 there is no record."""

    def __post_init__(self) -> None:
        if self.num_rounds < 1:
            raise ValueError(f"num_rounds is {self.num_rounds}; it must be at least 1")
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale is {self.scale}; it must be above 0 and at most 1")
        if not self.parts:
            raise ValueError(f"parts is empty; choose from {', '.join(get_args(PartName))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Print each part's figures as JSON; record them when all parts ran at full size."""
    config = tyro.cli(
        IndexBenchmark, args=argv, prog="python -m benchmarks.throughput.index", description=__doc__
    )
    if config.scale == 1 and "decode" in config.parts and (missing := missing_peers()):
        reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise ImportError(
            f"decoding is compared with {', '.join(missing)} ({reasons}); pip install -c constraints.txt -e '.[bench]', and "
            "FFmpeg's shared libraries for torchcodec (apt-get install ffmpeg)"
        )
    say = Console(stderr=True, highlight=False).print
    settings = {"code": hash_code(), "scale": config.scale, "num_rounds": config.num_rounds}
    runner = PartRunner(config.work_dir, settings=settings, say=say)
    runner.run([
        Part(name=name, run=partial(_measure, name, config, say), weight=_MINUTES[name])
        for name in dict.fromkeys(config.parts)
    ])  # fmt: skip
    sys.stdout.write(json.dumps(runner.figures, indent=2) + "\n")
    if config.scale == 1 and set(config.parts) == set(get_args(PartName)):
        path = write_record(
            "index_speed",
            config=asdict(config),
            metrics=runner.figures,
            excluded=[
                "making the archives",
                "first round of decode",
                "what a run of the flow pays once (the rate is that of the large archive beyond the small one)",
            ],
        )
        sys.stdout.write(f"{path}\n")
        shutil.rmtree(config.work_dir)
    return 0


def _measure(
    part: PartName, config: IndexBenchmark, say: Callable[[str], None]
) -> dict[str, object]:
    """In a folder of its own, which an interrupted attempt may have left and a finished one does not."""
    folder = config.work_dir / part
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = _measure_in(folder, part, config, say)
    shutil.rmtree(folder)
    return figures


def _measure_in(
    folder: Path, part: PartName, config: IndexBenchmark, say: Callable[[str], None]
) -> dict[str, object]:
    scale = config.scale
    if part == "decode":
        return measure_decode(num_rounds=config.num_rounds, scale=scale, folder=folder, say=say)
    if part == "write":
        return measure_write(scale=scale, folder=folder, say=say)
    encoder = PRESETS["aim_small"] if part == "flow" else _GROWTH_ENCODER
    torch.manual_seed(0)
    bundle_dir = folder / "bundle"
    save_bundle(bundle_dir, video=build_video_encoder(encoder).eval())
    export_onnx(ExportConfig(bundle=bundle_dir, num_clips=4))
    if part == "growth":
        return measure_growth(bundle_dir, scale=scale, folder=folder, say=say)
    return measure_flow(
        bundle_dir, num_rounds=config.num_rounds, scale=scale, folder=folder, say=say
    )


if __name__ == "__main__":
    raise SystemExit(main())
