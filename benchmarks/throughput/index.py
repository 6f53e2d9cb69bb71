"""The indexing benchmark: every rate beside its limit; `python -m benchmarks.throughput.index` writes one record.

Killed anywhere, the same command goes on after the last finished part, and ends what the killed run left behind. A quiet machine of
two cores needs about 40 minutes; `--scale 0.02 --num-rounds 2` shows whether everything runs.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import tyro
from rich.console import Console

from benchmarks.harness.record import capture_environment, write_record
from benchmarks.throughput.decode import measure_decode
from benchmarks.throughput.decode_peers import missing_peers
from benchmarks.throughput.end_to_end import measure_flow
from benchmarks.throughput.growth import measure_growth, measure_write
from cluster.processes import reap_orphans, track_child_processes
from cluster.storage import write_atomic
from encoders.bundle.folder import save_bundle
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.video_encoder.config import PRESETS, AimConfig
from encoders.video_encoder.registry import build_video_encoder

Part = Literal["decode", "flow", "growth", "write"]
_GROWTH_ENCODER = AimConfig(
    num_frames=4, image_size=32, patch_size=16, width=16, depth=2, num_heads=2
)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBenchmark:
    """Measure indexing part by part: decode, flow (end to end), growth, write."""

    parts: tuple[Part, ...] = get_args(Part)
    """What to measure."""
    work_dir: Path = Path("runs/index_benchmark")
    """Archives and the figures of finished parts; deleted when the record is written."""
    num_rounds: int = 5
    """Interleaved rounds of decode whose median counts, of decode after one that warms up."""
    scale: float = 1.0
    """Size of the archives; below 1 there is no record."""

    def __post_init__(self) -> None:
        if self.num_rounds < 1 or not 0 < self.scale <= 1 or not self.parts:
            raise ValueError(
                f"num_rounds is {self.num_rounds}, scale {self.scale}, parts {self.parts}; needed are at least 1, "
                "above 0 and at most 1, at least one part"
            )


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
    figures: dict[str, object] = {}
    reap_orphans(config.work_dir)
    with track_child_processes(config.work_dir):
        for part in config.parts:
            say(f"{part} ...")
            started = time.perf_counter()
            found = _measured(part, config, say)
            figures |= found
            sys.stdout.write(json.dumps({part: found}, indent=2, default=_plain) + "\n")
            say(f"{part}: {time.perf_counter() - started:.0f} s")
    if config.scale == 1 and set(config.parts) == set(get_args(Part)):
        path = write_record(
            "index_speed",
            config=asdict(config),
            metrics=figures,
            excluded=[
                "making the archives",
                "first round of decode",
                "what a run of the flow pays once (the rate is that of the large archive beyond the small one)",
            ],
        )
        sys.stdout.write(f"{path}\n")
        shutil.rmtree(config.work_dir)
    return 0


def _measured(part: Part, config: IndexBenchmark, say: Callable[[str], None]) -> dict[str, object]:
    """From the file of an earlier run with the same code and size, or measured now and kept there."""
    wanted = {
        "commit": capture_environment()["git_commit"],
        "scale": config.scale,
        "num_rounds": config.num_rounds,
    }
    path = config.work_dir / f"{part}.json"
    if path.exists() and (kept := json.loads(path.read_text()))["of"] == wanted:
        say(f"{part} is done: {path}")
        return kept["figures"]
    folder = config.work_dir / part
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = _measure(part, config, folder, say)
    write_atomic(path, json.dumps({"of": wanted, "figures": figures}, default=_plain))
    shutil.rmtree(folder)
    return figures


def _measure(
    part: Part, config: IndexBenchmark, folder: Path, say: Callable[[str], None]
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


def _plain(value: object) -> object:
    return {name: getattr(value, name) for name in getattr(value, "__dataclass_fields__", {})}


if __name__ == "__main__":
    raise SystemExit(main())
