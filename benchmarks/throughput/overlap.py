"""Decoding and encoding at once in one process, beside each alone; `python -m benchmarks overlap`.

What runs is what a process with a GPU runs (`encoders.stages.overlap`), here with one decoding thread and an encoder of one thread,
each of which has a core. Where the halves overlap, the whole is as fast as the slower one.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.throughput.decode import moving_pictures
from encoders.bundle.card import read_card
from encoders.bundle.folder import save_bundle
from encoders.decoding.request import DecodeRequest
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.media.frame_index import Span
from encoders.stages.decode_embed_worker import ClipEncoder, HostFrames
from encoders.stages.encode_request import EncodeRequest, EncoderOptions
from encoders.stages.overlap import OverlappedEncoder
from encoders.video_encoder.config import PRESETS
from encoders.video_encoder.registry import build_video_encoder

_FPS = 25
_SPANS_PER_VIDEO = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Measure how much of the slower half the whole reaches; needs two cores with nothing else on them."""

    preset: str = "aim_small"
    """Name of an encoder."""
    num_videos: int = 24
    """Videos of four clips of 2 s each."""
    height: int = 480
    """Of the frames, which are 4:3."""
    batch_size: int = 8
    num_rounds: int = 5
    """Each half alone and the whole, in turns."""

    def __post_init__(self) -> None:
        if min(self.num_videos, self.batch_size, self.num_rounds) < 1:
            raise ValueError(
                f"num_videos is {self.num_videos}, batch_size {self.batch_size}, num_rounds {self.num_rounds}; each must be at least 1"
            )


def measure(config: Config) -> dict[str, Any]:
    """`of_slower`: the whole, in clips/s, of the slower of decoding and encoding alone; medians over the rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_bundle(folder / "bundle", video=build_video_encoder(PRESETS[config.preset]).eval())
        export_onnx(ExportConfig(bundle=folder / "bundle", num_clips=4))
        video = folder / "moving.mp4"
        seconds = 2 * _SPANS_PER_VIDEO
        size = (config.height, config.height * 4 // 3)
        write_video(video, moving_pictures(seconds * _FPS, size, 1), codec="h264")
        options = EncoderOptions(
            bundle_dir=str(folder / "bundle"),
            backend="onnx",
            num_threads=1,
            batch_size=config.batch_size,
        )
        spans = tuple(Span(start_s=s, end_s=s + 2) for s in range(0, seconds, 2))
        decode = DecodeRequest(
            video=str(video), spans=spans, sampling=read_card(folder / "bundle").sampling
        )
        encoder = ClipEncoder(options, "cpu", HostFrames())
        overlapped = OverlappedEncoder(encoder, num_sessions=1)
        rates: dict[str, list[float]] = {"decode": [], "encode": [], "whole": []}
        for _ in range(config.num_rounds + 1):
            rates["decode"].append(_decode_rate(encoder, decode, config))
            rates["encode"].append(_encode_rate(encoder, decode, config))
            rates["whole"].append(_whole_rate(overlapped, decode, options, config))
    shares = [
        whole / min(decode_rate, encode_rate)
        for decode_rate, encode_rate, whole in zip(*rates.values(), strict=True)
    ]
    one_by_one = [
        1 / (1 / a + 1 / b) for a, b in zip(rates["decode"], rates["encode"], strict=True)
    ]
    return {
        **{f"{part}_clips_per_s": _median(of_part) for part, of_part in rates.items()},
        "of_slower": _median(shares),
        "over_one_by_one": _median(
            [whole / alone for whole, alone in zip(rates["whole"], one_by_one, strict=True)]
        ),
    }


def _decode_rate(encoder: ClipEncoder, request: DecodeRequest, config: Config) -> float:
    started = time.perf_counter()
    count = sum(1 for _ in range(config.num_videos) for _ in encoder.spans(request))
    return count / (time.perf_counter() - started)


def _encode_rate(encoder: ClipEncoder, request: DecodeRequest, config: Config) -> float:
    spans = [span for _ in range(2) for span in encoder.spans(request)]
    num_clips = config.num_videos * _SPANS_PER_VIDEO
    started = time.perf_counter()
    for number in range(num_clips):
        encoder.add(spans[number % len(spans)], 0, 0.0)
        for _ in encoder.encoded(is_last=number == num_clips - 1):
            pass
    return num_clips / (time.perf_counter() - started)


def _whole_rate(
    overlapped: OverlappedEncoder, decode: DecodeRequest, options: EncoderOptions, config: Config
) -> float:
    started = time.perf_counter()
    count = 0
    for number in range(config.num_videos):
        request = EncodeRequest(
            decode=decode,
            encoder=options,
            ticket=number,
            is_last=number == config.num_videos - 1,
        )
        count += sum(reply is not None for reply in overlapped.iter_encoded(request))
    return count / (time.perf_counter() - started)


def _median(values: list[float]) -> float:
    """Without the first, which loads what a first call loads."""
    return float(np.median(values[1:] or values))
