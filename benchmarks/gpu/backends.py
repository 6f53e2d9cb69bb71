"""What runs on a GPU beside its reference: ONNX Runtime and torch, NVDEC and PyAV, the GPU tests."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from benchmarks.gpu.steps import Measurement, usable_tensorrt
from benchmarks.harness.record import REPOSITORY
from encoders.video_encoder.config import PRESETS
from encoders.video_encoder.registry import build_video_encoder

if TYPE_CHECKING:  # a bare GPU image lacks what these import
    from encoders.backends.base import EncoderBackend
    from encoders.bundle.card import BundleCard

MAX_TESTS_S = 300.0


def compare_onnx_cuda(
    device: str, *, preset: str = "aim_small", num_clips: int = 64
) -> Measurement:
    """Export an encoder whose every weight is random, then run both backends on the device."""
    from encoders.backends.registry import open_backend
    from encoders.bundle.canaries import synthetic_clips
    from encoders.export.config import ExportConfig
    from encoders.export.onnx_export import export_onnx
    from encoders.export.parity import compare_backends

    with tempfile.TemporaryDirectory() as folder:
        bundle_dir = Path(folder) / "bundle"
        card = save_random_bundle(bundle_dir, preset)
        report = export_onnx(ExportConfig(bundle=bundle_dir, num_clips=num_clips))
        parity = compare_backends(
            open_backend(bundle_dir, "torch", device=device),
            open_backend(bundle_dir, "onnx", device=device),
            synthetic_clips(card.sampling, num_clips, name="gpu-check"),
        )
    return Measurement(
        line=f"lowest cosine {parity.min_cosine:.7f} over {num_clips} clips",
        config={"preset": preset, "device": device, "weights": "random", "dtype": "float32"},
        metrics={
            "min_cosine": parity.min_cosine,
            "min_cosine_on_cpu": report.min_cosine,
            "num_clips": num_clips,
        },
    )


def compare_tensorrt(
    device: str, *, precision: Literal["fp32", "fp16", "bf16"], preset: str = "aim_small"
) -> Measurement:
    """Build engines, measure their drift, open them as indexing would, and time a batch beside torch."""
    from encoders.backends.registry import open_backend
    from encoders.bundle.canaries import synthetic_clips
    from encoders.bundle.card import read_card
    from encoders.commands.export import Config as ExportCommand
    from encoders.commands.export import run_export

    library = usable_tensorrt()
    assert library is not None  # the part needs one
    with tempfile.TemporaryDirectory() as folder:
        bundle_dir = Path(folder) / "bundle"
        card = save_random_bundle(bundle_dir, preset)
        run_export(ExportCommand(bundle=bundle_dir, backend=library, precision=precision))
        (record,) = read_card(bundle_dir).engines
        engine = open_backend(bundle_dir, "auto", device=device)
        frames_NTHWC = synthetic_clips(card.sampling, record.max_batch_size, name="gpu-check")
        # Three times: the second call captures a CUDA graph and the third replays it.
        runs_3ND = np.stack([engine.embed_clips(frames_NTHWC) for _ in range(3)])
        rates = {
            kind: clips_per_s(open_backend(bundle_dir, kind, device=device), frames_NTHWC)
            for kind in ("torch", "tensorrt")
        }
    drift = record.drift
    assert drift is not None  # no engine is added without
    replayed = float(np.abs(runs_3ND - runs_3ND[0]).max())
    problems = [] if engine.kind == "tensorrt" else [f"'auto' opened {engine.kind}"]
    problems += getattr(engine, "capture_errors", [])
    if not replayed < 1e-3:
        problems.append(f"a replayed CUDA graph differs from the first run by {replayed}")
    return Measurement(
        line=f"{record.line()}; {rates['tensorrt']:,.4g} clips/s with copies, torch float32 {rates['torch']:,.4g}",
        config={"preset": preset, "device": device, "weights": "random", "engine": record},
        metrics={
            "min_cosine": drift.min_cosine_clips,
            "mean_cosine": drift.mean_cosine_clips,
            "top_k_overlap": drift.top_k_overlap,
            "replay_difference": replayed,
            "clips_per_s": rates["tensorrt"],
            "clips_per_s_torch_float32": rates["torch"],
        },
        problems=problems,
    )


def save_random_bundle(bundle_dir: Path, preset: str) -> "BundleCard":
    """A bundle of a preset whose every weight is random: a new adapter is zero and would hide what it does."""
    from encoders.bundle.folder import save_bundle

    torch.manual_seed(0)
    encoder = build_video_encoder(PRESETS[preset])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return save_bundle(bundle_dir, video=encoder.eval())


def clips_per_s(backend: "EncoderBackend", frames_NTHWC: np.ndarray, *, num_runs: int = 5) -> float:
    """Median over calls from host frames to host vectors; three calls go before."""
    seconds = []
    for _ in range(3 + num_runs):
        started = time.perf_counter()
        backend.embed_clips(frames_NTHWC)
        seconds.append(time.perf_counter() - started)
    return len(frames_NTHWC) / float(np.median(seconds[3:]))


def compare_nvdec(device: str, *, codec: str) -> Measurement:
    """Write a video of moving colours and compare DALI's frames with PyAV's."""
    from benchmarks.dives.video import find_format, write_video

    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / f"moving{find_format(codec).suffix}"
        write_video(video, [draw_moving_colours(num_frames=75)], codec=codec)
        return compare_decoders(video, device)


def draw_moving_colours(*, num_frames: int, width: int = 320, height: int = 256) -> np.ndarray:
    """Smooth waves [T, H, W, C]: every frame differs, and no edge is sharper than chroma can be."""
    t, y, x = np.meshgrid(
        np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij", sparse=True
    )
    waves = [np.sin((x + 2 * t) / 40), np.sin((y - 3 * t) / 50), np.sin((x + y + 4 * t) / 60)]
    shape = (num_frames, height, width)
    return np.stack([np.broadcast_to(128 + 90 * wave, shape) for wave in waves], -1).astype(
        np.uint8
    )


def compare_decoders(video: Path, device: str) -> Measurement:
    """DALI on a device against PyAV on the CPU: the same frame numbers, and nearly the same pixels.

    Both see the same decoded YUV; what may differ is how chroma is interpolated and rounded on the way to RGB.
    """
    from encoders.decoding.decode import decode_clips
    from encoders.media.frame_index import Span
    from encoders.media.sampling import SamplingConfig

    spans = [Span(start_s=0, end_s=None), Span(start_s=0.4, end_s=1.2), Span(start_s=1, end_s=None)]
    sampling = SamplingConfig(num_frames=12, frame_size=None)
    dali = decode_clips(video, spans, sampling, backend="dali", device=device)
    pyav = decode_clips(video, spans, sampling)
    num_wrong = int((dali.frame_indices_NT != pyav.frame_indices_NT).sum())
    difference = np.abs(dali.frames_NTHWC.astype(np.int16) - pyav.frames_NTHWC)
    mean, p999 = float(difference.mean()), float(np.percentile(difference, 99.9))
    problems = [f"span {n}: {error}" for n, error in enumerate(dali.errors) if error is not None]
    if dali.backend_used != "dali":
        problems.append(f"dali did not decode it: {dali.fallback_reason}")
    return Measurement(
        line=f"{num_wrong} wrong frames, pixels differ by {mean:.2f} on average, 99.9 % by at most {p999:g}",
        config={"device": device, "num_spans": len(spans), "num_frames": sampling.num_frames},
        metrics={
            "num_wrong_frame_indices": num_wrong,
            "mean_pixel_difference": mean,
            "p999_pixel_difference": p999,
        },
        problems=problems,
    )


def run_gpu_tests(*, timeout_s: float = MAX_TESTS_S) -> Measurement:
    """pytest tests/gpu, where a test that skips for want of a GPU fails."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        env={**os.environ, "FAIL_WITHOUT_GPU": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    lines = result.stdout.strip().splitlines() or [result.stderr.strip()[-300:]]
    counts = count_tests(lines[-1])
    problems = []
    if result.returncode != 0 or not counts.get("passed"):
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        problems = [f"pytest ended with status {result.returncode}", *failed[:10]]
    return Measurement(
        line=lines[-1].strip("= "),
        config={"FAIL_WITHOUT_GPU": "1", "folder": "tests/gpu"},
        metrics={"exit_status": result.returncode, **counts},
        problems=problems,
    )


def count_tests(line: str) -> dict[str, int]:
    """`3 passed, 1 skipped in 2.0s` -> {"passed": 3, "skipped": 1}."""
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)", line)
    return {word.removesuffix("s") if word == "errors" else word: int(n) for n, word in counts}
