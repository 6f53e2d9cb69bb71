"""Share of a GPU that reaches the archive: the whole flow beside decoding alone and encoding alone, on the same videos and device."""

import importlib.util
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.backends import save_random_bundle
from benchmarks.gpu.steps import Measurement
from benchmarks.harness.record import Ceiling
from benchmarks.harness.steps import index_command
from encoders.backends.registry import open_backend
from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import read_card
from encoders.clips import Clip
from encoders.decoding.isolated import decoder_for
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span

_BATCH = 64


def measure_index(
    device: str, *, preset: str = "aim_vit_b16", num_videos: int = 480, num_processes: int = 2
) -> Measurement:
    """Clips/s of 720p H.264 into Milvus Lite, and of its two parts in as many processes as the flow has on this device."""
    from benchmarks.throughput.end_to_end import write_archives
    from indexing.ledger.summary import SUMMARY

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle_dir = folder / "bundle"
        save_random_bundle(bundle_dir, preset)
        backend = _export(bundle_dir, device)
        few, many = write_archives(folder, num_videos)
        decode = _decode_rate(bundle_dir, few, device, num_processes)
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
    if importlib.util.find_spec("tensorrt"):
        run_export(ExportCommand(bundle=bundle_dir, backend="tensorrt", precision="fp16"))
        return "tensorrt"
    export_onnx(ExportConfig(bundle=bundle_dir, num_clips=4))  # the canaries come with it
    return "torch"


def _decode_rate(bundle_dir: Path, clips: Sequence[Clip], device: str, num_processes: int) -> float:
    """Frames stay where they were decoded, and nothing comes back."""
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

    def work(part: Sequence[DecodeRequest]) -> tuple[int, float, float]:
        decoder = decoder_for(device, decode_function="encoders.decoding.device:iter_device_spans")
        with closing(decoder):
            list(decoder.iter_spans(part[0]))  # the first one loads the libraries
            started = time.perf_counter()
            spans = [span for request in part for span in decoder.iter_spans(request)]
            ended = time.perf_counter()
        for span in spans:
            if span.error or span.backend_used != requests[0].backend:
                raise RuntimeError(
                    f"a clip was not decoded by {requests[0].backend}: {span.error or span.fallback_reason}"
                )
        return len(spans), started, ended

    with ThreadPoolExecutor(num_processes) as pool:
        done = list(pool.map(work, [requests[i::num_processes] for i in range(num_processes)]))
    seconds = max(end for _, _, end in done) - min(start for _, start, _ in done)
    return sum(count for count, _, _ in done) / seconds


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
