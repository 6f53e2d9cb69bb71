"""Other ways to decode the same frames, for the decode benchmark: one thread each, RGB, the same resize at the end."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from encoders.frame_image import resize_frame

# The wanted frame numbers of each clip of one video.
Plan = Sequence[np.ndarray]
Decoder = Callable[[Path, Plan, int], int]
"""(video, plan, frame size) -> frames that came out of the decoder, -1 where the library does not say."""


def seek_per_clip(path: Path, plan: Plan, size: int) -> int:
    """PyAV: for each clip a seek to the keyframe before it, then forward; the container stays open."""
    num_decoded = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = _ticks_per_frame(stream)
        for numbers in plan:
            wanted = set(numbers.tolist())
            container.seek(int(min(wanted) * ticks), stream=stream, backward=True)
            for frame in container.decode(stream):
                num_decoded += 1
                number = round((frame.pts or 0) / ticks)
                if number in wanted:
                    resize_frame(frame.to_ndarray(format="rgb24"), size)
                if number >= max(wanted):
                    break
    return num_decoded


def decode_all(path: Path, plan: Plan, size: int) -> int:
    """PyAV: every frame of the file, those that are wanted converted."""
    wanted = {int(number) for numbers in plan for number in numbers}
    num_decoded = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            num_decoded += 1
            if number in wanted:
                resize_frame(frame.to_ndarray(format="rgb24"), size)
    return num_decoded


def decode_with_decord(path: Path, plan: Plan, size: int) -> int:
    """decord: one reader, one batch per clip."""
    decord = importlib.import_module("decord")  # an optional peer

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    for numbers in plan:
        for picture_HWC in reader.get_batch(numbers.tolist()).asnumpy():
            resize_frame(picture_HWC, size)
    return -1


def decode_with_torchcodec(path: Path, plan: Plan, size: int) -> int:
    """torchcodec: one exact decoder, all frames of the video in one call."""
    torchcodec = importlib.import_module("torchcodec.decoders")  # an optional peer

    decoder = torchcodec.VideoDecoder(
        str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
    )
    for numbers in plan:
        for picture_HWC in decoder.get_frames_at(indices=numbers.tolist()).data.numpy():
            resize_frame(picture_HWC, size)
    return -1


def decode_planned_packets(path: Path, plan: Plan, _size: int) -> int:
    """libavcodec on the packets of the plan alone, nothing converted: what decoding itself costs. Dense plans, from the start."""
    wanted = {int(number) for numbers in plan for number in numbers}
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


def available_peers() -> dict[str, Decoder]:
    """By name; a library that is not installed, or does not load here, is left out."""
    peers: dict[str, Decoder] = {"pyav_seek": seek_per_clip, "pyav_full": decode_all}
    if importlib.util.find_spec("decord"):
        peers["decord"] = decode_with_decord
    if importlib.util.find_spec("torchcodec"):
        try:
            importlib.import_module("torchcodec.decoders")
            peers["torchcodec"] = decode_with_torchcodec
        except (OSError, RuntimeError, ImportError):  # its native library does not load here
            return peers
    return peers


def _ticks_per_frame(stream: VideoStream) -> float:
    rate, base = stream.average_rate, stream.time_base
    if rate is None or base is None:
        raise ValueError("the benchmark's videos have a constant frame rate; this one names none")
    return float(1 / (rate * base))
