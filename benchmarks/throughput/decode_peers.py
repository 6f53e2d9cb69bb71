"""Other ways to decode the same frames, for the decode benchmark: one thread each, RGB of one size, by the same way to resize.

With "pillow_bicubic" every way ends in Pillow's resize. With "swscale_area" each uses the fastest resize that it has itself:
FFmpeg's area average in PyAV, decord's own scaler, torchcodec's bilinear transform.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from encoders.media.sampling import Resize


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is wanted of one video."""

    numbers: Sequence[np.ndarray]
    """Frame numbers of each clip."""
    size: int
    """Side of the square pictures."""
    resize: Resize

    @property
    def all_numbers(self) -> set[int]:
        return {int(number) for numbers in self.numbers for number in numbers}


Decoder = Callable[[Path, Plan], int]
"""-> frames that came out of the decoder, -1 where the library does not say."""


def seek_per_clip(path: Path, plan: Plan) -> int:
    """PyAV: for each clip a seek to the keyframe before it, then forward; the container stays open."""
    num_decoded = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = _ticks_per_frame(stream)
        for numbers in plan.numbers:
            wanted = set(numbers.tolist())
            container.seek(int(min(wanted) * ticks), stream=stream, backward=True)
            for frame in container.decode(stream):
                num_decoded += 1
                number = round((frame.pts or 0) / ticks)
                if number in wanted:
                    _pyav_picture(frame, plan)
                if number >= max(wanted):
                    break
    return num_decoded


def decode_all(path: Path, plan: Plan) -> int:
    """PyAV: every frame of the file, those that are wanted converted."""
    wanted = plan.all_numbers
    num_decoded = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            num_decoded += 1
            if number in wanted:
                _pyav_picture(frame, plan)
    return num_decoded


def decode_with_decord(path: Path, plan: Plan) -> int:
    """decord: one reader, one batch per clip."""
    decord = importlib.import_module("decord")  # an optional peer

    size = plan.size if plan.resize == "swscale_area" else -1
    reader = decord.VideoReader(
        str(path), ctx=decord.cpu(0), num_threads=1, width=size, height=size
    )
    for numbers in plan.numbers:
        for picture_HWC in reader.get_batch(numbers.tolist()).asnumpy():
            _picture(picture_HWC, plan)
    return -1


def decode_with_torchcodec(path: Path, plan: Plan) -> int:
    """torchcodec: one exact decoder, all frames of a clip in one call."""
    torchcodec = importlib.import_module("torchcodec.decoders")  # an optional peer
    transforms = importlib.import_module("torchcodec.transforms")

    is_area = plan.resize == "swscale_area"
    decoder = torchcodec.VideoDecoder(
        str(path),
        dimension_order="NHWC",
        num_ffmpeg_threads=1,
        seek_mode="exact",
        transforms=[transforms.Resize((plan.size, plan.size))] if is_area else None,
    )
    for numbers in plan.numbers:
        for picture_HWC in decoder.get_frames_at(indices=numbers.tolist()).data.numpy():
            _picture(picture_HWC, plan)
    return -1


def decode_planned_packets(path: Path, plan: Plan) -> int:
    """libavcodec on the packets of the plan alone, nothing converted: what decoding itself costs. Dense plans, from the start."""
    wanted = plan.all_numbers
    last, num_decoded = max(wanted), 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = _ticks_per_frame(stream)
        for packet in container.demux(stream):
            is_wanted = packet.pts is not None and round(packet.pts / ticks) in wanted
            stream.codec_context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
            num_decoded += len(packet.decode())
            if (
                packet.dts is not None and packet.dts / ticks > last + 8
            ):  # deeper than any reordering here
                break
    return num_decoded


_OPTIONAL: dict[str, tuple[str, Decoder]] = {
    "decord": ("decord", decode_with_decord),
    "torchcodec": ("torchcodec.decoders", decode_with_torchcodec),
}


def missing_peers() -> dict[str, str]:
    """Libraries that a record must compare with -> why they cannot be used here."""
    reasons = {name: _why_not(module) for name, (module, _) in _OPTIONAL.items()}
    return {name: why for name, why in reasons.items() if why}


def available_peers() -> dict[str, Decoder]:
    """By name; a library that is not installed, or does not load here, is left out."""
    missing = missing_peers()
    optional = {name: way for name, (_, way) in _OPTIONAL.items() if name not in missing}
    return {"pyav_seek": seek_per_clip, "pyav_full": decode_all} | optional


@cache
def _why_not(module: str) -> str:
    """ "" where it can be used."""
    if not importlib.util.find_spec(module.partition(".")[0]):
        return "not installed"
    try:
        importlib.import_module(module)
    except (OSError, RuntimeError, ImportError) as error:  # its native library
        return f"does not load: {(str(error).splitlines() or [type(error).__name__])[0]}"
    return ""


def _pyav_picture(frame: VideoFrame, plan: Plan) -> np.ndarray:
    if plan.resize == "swscale_area":
        return frame.to_ndarray(
            format="rgb24", interpolation="AREA", width=plan.size, height=plan.size
        )
    return _picture(frame.to_ndarray(format="rgb24"), plan)


def _picture(picture_HWC: np.ndarray, plan: Plan) -> np.ndarray:
    size = (plan.size, plan.size)
    if picture_HWC.shape[:2] == size:
        return picture_HWC
    return np.asarray(Image.fromarray(picture_HWC).resize(size, Image.Resampling.BICUBIC))


def _ticks_per_frame(stream: VideoStream) -> float:
    rate, base = stream.average_rate, stream.time_base
    if rate is None or base is None:
        raise ValueError("the benchmark's videos have a constant frame rate; this one names none")
    return float(1 / (rate * base))
