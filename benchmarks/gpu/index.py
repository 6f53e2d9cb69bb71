"""Share of a GPU that reaches the archive: the whole flow beside decoding alone and encoding alone, on the same videos and device."""

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.backends import save_random_bundle
from benchmarks.gpu.steps import Measurement, usable_tensorrt
from benchmarks.harness.record import Ceiling
from benchmarks.harness.steps import index_command
from encoders.backends.registry import open_backend
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import read_card
from encoders.clips import Clip
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span

_BATCH = 64
# An H200 has seven engines; a second session on each fills the gaps of the first.
_SESSIONS = (1, 2, 4, 7, 14, 16)
_VIDEOS_PER_SESSION = 8
_NUM_CLIPS = 8


def measure_index(device: str, *, preset: str = "aim_small", num_videos: int = 480) -> Measurement:
    """Clips/s of 720p H.264 into Milvus Lite, and of its two parts alone: of decoding the best over several numbers of sessions."""
    from benchmarks.throughput.end_to_end import write_archives
    from indexing.ledger.summary import SUMMARY

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle_dir = folder / "bundle"
        save_random_bundle(bundle_dir, preset)
        backend = _export(bundle_dir, device)
        few, many = write_archives(folder, num_videos)
        decode_rates = _decode_rates(bundle_dir, few, device)
        decode = max(decode_rates.values())
        encode = _encode_rate(bundle_dir, backend, device)
        seconds = {}
        for size in ("few", "many"):
            _run_index(bundle_dir, folder, size, backend, device)
            seconds[size] = json.loads((folder / size / "run" / SUMMARY).read_text())
    flow = (len(many) - len(few)) / (seconds["many"]["seconds"] - seconds["few"]["seconds"])
    slower = min(decode, encode)
    summary = seconds["many"]
    problems = [] if summary["written"] == len(many) else [f"{summary['written']} of {len(many)} clips are in"]  # fmt: skip
    if device != "cpu" and set(summary["decode_backends"]) != {"dali"}:
        problems.append(f"decoded by {summary['decode_backends']}: {summary['decode_fallbacks']}")
    return Measurement(
        line=f"{flow:,.4g} clips/s into Milvus; alone: decode {decode:,.4g}, encode {encode:,.4g} ({backend})",
        config={
            "preset": preset,
            "device": device,
            "backend": backend,
            "weights": "random",
            "clips": [len(few), len(many)],
        },
        metrics={
            "clips_per_s": flow,
            "decode_clips_per_s": decode,
            **{f"decode_clips_per_s_{n}_sessions": rate for n, rate in decode_rates.items()},
            "encode_clips_per_s": encode,
            "share_of_slower": flow / slower,
            "canary_min_cosine": summary["canary_min_cosine"],
        },
        ceiling=Ceiling(
            name="the slower of decode and encode alone",
            value=slower,
            unit="clips/s",
            fraction=flow / slower,
        ),
        excluded=["what a run pays once: the rate is that of the large archive beyond the small one"],
        problems=problems,
    )  # fmt: skip


def _export(bundle_dir: Path, device: str) -> str:
    """Add what the device runs best; the name of the backend."""
    from encoders.commands.export import Config as ExportCommand
    from encoders.commands.export import run_export
    from encoders.export.config import ExportConfig
    from encoders.export.onnx_export import export_onnx

    if device == "cpu":
        export_onnx(ExportConfig(bundle=bundle_dir, num_clips=4))
        return "onnx"
    if library := usable_tensorrt():
        command = ExportCommand(bundle=bundle_dir, backend=library, num_clips=_NUM_CLIPS)
        run_export(command)
        return "tensorrt"
    run_export(
        ExportCommand(bundle=bundle_dir, backend="compiled", precision="bf16", num_clips=_NUM_CLIPS)
    )
    return "compiled"


def _decode_rates(bundle_dir: Path, clips: Sequence[Clip], device: str) -> dict[int, float]:
    """Clips/s by the number of videos that are decoded at once; frames stay where they were decoded."""
    from encoders.decoding.device import iter_device_spans

    sampling = read_card(bundle_dir).sampling
    spans_of: dict[str, list[Span]] = {}
    for clip in clips:
        spans_of.setdefault(clip.video_uri, []).append(Span(start_s=clip.start_s, end_s=clip.end_s))
    requests = [
        DecodeRequest(
            video=video,
            spans=tuple(spans),
            sampling=sampling,
            backend="pyav" if device == "cpu" else "dali",
            device=device,
        )
        for video, spans in spans_of.items()
    ]

    def work(request: DecodeRequest) -> int:
        spans = list(iter_device_spans(request))
        for span in spans:
            if span.error or span.backend_used != request.backend:
                raise RuntimeError(
                    f"a clip was not decoded by {request.backend}: {span.error or span.fallback_reason}"
                )
        return len(spans)

    rates = {}
    for num_sessions in _SESSIONS:
        with ThreadPoolExecutor(num_sessions) as pool:
            # Loads the libraries and opens every session.
            list(pool.map(work, requests[:num_sessions]))
            chosen = requests[: num_sessions * _VIDEOS_PER_SESSION]
            started = time.perf_counter()
            count = sum(pool.map(work, chosen))
            rates[num_sessions] = count / (time.perf_counter() - started)
    return rates


def _encode_rate(bundle_dir: Path, backend: str, device: str, *, num_runs: int = 8) -> float:
    """Frames that lie on the device already, in the batches of the flow."""
    encoder = open_backend(bundle_dir, backend, device=device)
    batch = _BATCH if device != "cpu" else 4
    frames_NTHWC = torch.from_numpy(synthetic_clips(encoder.card.sampling, batch, name="gpu-index"))
    frames_NTHWC = frames_NTHWC.to(device)
    seconds = []
    for _ in range(num_runs + 3):  # a CUDA graph is captured by the second call
        started = time.perf_counter()
        encoder.embed_tensor(frames_NTHWC).cpu()
        seconds.append(time.perf_counter() - started)
    return batch / float(np.median(seconds[3:]))


def _run_index(bundle_dir: Path, folder: Path, size: str, backend: str, device: str) -> None:
    place = folder / size
    options = ("--backend", backend, "--workers.device", "cpu" if device == "cpu" else "cuda")
    command = index_command(bundle_dir, place / "clips.parquet", place, *options)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
