"""The forecast of a dry run beside the run: an archive of small clips, one of them a video, on this machine.

Seconds are those of the clock, which others on the machine lengthen; CPU-seconds of decoding and encoding say what is left without them.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.dives.video import FPS, write_video
from encoders.bundle.folder import save_bundle
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.video_encoder.config import PRESETS
from encoders.video_encoder.registry import build_video_encoder
from indexing.ledger.forecast import measured_run
from indexing.ledger.summary import SUMMARY
from indexing.pipeline.config import ForecastOptions, IndexConfig
from indexing.pipeline.dry_run import dry_run
from indexing.pipeline.index_archive import index_archive

_SIZE = 96
_SECONDS = (1, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Forecast an archive from a sample of it, then index it."""

    clips: int = 2000
    """Clips of the archive, each a video of its own."""
    sample: int = 50
    """Clips that the forecast is made from."""
    encoder: str = "aim_small"
    """Preset of the encoder, with random weights."""

    def __post_init__(self) -> None:
        if not 2 <= self.sample <= self.clips:
            raise ValueError(
                f"sample is {self.sample}; it must be at least 2 and at most clips ({self.clips})"
            )
        if self.encoder not in PRESETS:
            raise ValueError(f"encoder is {self.encoder!r}; choose from {', '.join(PRESETS)}")


def measure(config: Config) -> dict[str, Any]:
    """Errors as shares of what the run took; negative = it took less than the forecast in `signed_error`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_archive(folder / "archive", config.clips)
        torch.manual_seed(0)
        bundle = folder / "bundle"
        save_bundle(bundle, video=build_video_encoder(PRESETS[config.encoder]).eval())
        export_onnx(ExportConfig(bundle=bundle, num_clips=4))
        settings = IndexConfig(
            bundle=bundle,
            clips=str(folder / "archive"),
            milvus_uri=str(folder / "milvus"),
            run_dir=folder / "run",
            recompute=0,
            forecast=ForecastOptions(sample=config.sample),
        )
        forecast = dry_run(settings)
        index_archive(settings)
        run = measured_run(folder / "run" / SUMMARY)
    on_cpu = [name for name, device in run.devices.items() if device == "cpu"]
    run_cpu_s = sum(run.busy_s[name] for name in on_cpu)
    return {
        "forecast_error": abs(forecast.seconds / run.seconds - 1),
        "forecast_cpu_error": abs(forecast.cpu_s / run_cpu_s - 1),
        "signed_error": run.seconds / forecast.seconds - 1,
        "forecast_s": forecast.seconds,
        "run_s": run.seconds,
        "forecast_cpu_s": forecast.cpu_s,
        "run_cpu_s": run_cpu_s,
        "start_s": forecast.rates.start_s,
        "binds": forecast.binds,
        "clips": run.clips,
    }


def _write_archive(folder: Path, num_clips: int) -> None:
    """Textures that move, of one to three seconds."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(num_clips):
        tile = rng.integers(0, 255, (_SIZE // 8, _SIZE // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        num_frames = FPS * int(rng.integers(_SECONDS[0], _SECONDS[1] + 1))
        frames_THWC = np.stack([np.roll(tile, 2 * turn, 1) for turn in range(num_frames)])
        write_video(folder / f"{number:05d}.mp4", [frames_THWC], codec="h264")
