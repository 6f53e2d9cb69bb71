"""Frames of one local video through NVIDIA DALI: NVDEC on a GPU, and on a CPU the codecs that DALI decodes there.

The frame numbers come from the index that the pyav backend uses, and so does the check of the file: DALI gets the bytes of a
file that PyavVideo has accepted, and no path.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from queue import Empty, LifoQueue
from typing import Any

import numpy as np
import torch

from encoders.decoding.nvidia.hardware_video import HardwareVideo, first_cause
from encoders.decoding.nvidia.nvdec_limits import sparse_reason
from encoders.decoding.nvidia.trust import TrustedKinds
from encoders.media.errors import DecodeSetupError

try:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline
except ImportError as error:
    raise ImportError(
        "decoding with dali needs the package 'nvidia-dali-cuda130': pip install -e '.[dali]'"
    ) from error

CPU_CODECS = frozenset({"vp8", "vp9", "mjpeg"})
_CONTAINERS = ("mov", "matroska")
# DALI counts the bytes left in a file that lies in memory in 32 bits: of a longer one it takes the rest for its end, and gives
# black frames, or those of the video before, without an error.
MAX_FILE_BYTES = 2**31 - 1
# Pipelines of one device: each is a session of NVDEC, and an idle one holds surfaces. No GPU has more than eight engines.
_MAX_PIPELINES = 16


class DaliVideo(HardwareVideo):
    """See HardwareVideo."""

    name = "dali"
    trusted = TrustedKinds()

    def _source_reason(self) -> str | None:
        video, index = self._video, self._video.index
        if self._device_id is None and index.codec not in CPU_CODECS:
            return f"dali does not decode {index.codec} on a CPU"
        if video.container_format not in _CONTAINERS:
            return "dali opens MP4/MOV and Matroska/WebM only"
        if video.path.stat().st_size >= MAX_FILE_BYTES:
            return "the file has 2 GiB or more, which dali does not read from memory"
        if index.decoded is not None:
            return "the file's packets do not tell which frames it shows, and when"
        if index.num_frames != index.num_packets:
            return "the file has packets that are not shown, which dali counts as frames"
        if self._device_id is not None and index.is_keyframe_P.all():
            return "the file has keyframes only, for which dali asks NVDEC for no reference frame and is refused"
        if video.has_false_keyframes:
            return "the file has keyframes at which dali may not start (periodic intra refresh)"
        if video.num_video_streams > 1:
            return f"the file has {video.num_video_streams} video streams"
        return None

    def _request_reason(self, wanted: list[int]) -> str | None:
        return None if self._device_id is None else sparse_reason(self.index, wanted)

    def _read_run(self, numbers: list[int]) -> Any:
        """A copy, for DALI writes its own memory again."""
        with _pipelines(self._device_id).borrowed() as pipeline:
            pipeline.feed_input("encoded", [np.memmap(self._video.path, np.uint8, mode="r")])
            pipeline.feed_input("frames", [np.array(numbers, np.int32)])
            (sequences,) = pipeline.run()
            if not self._keeps_on_device:
                return np.array(sequences.as_cpu()[0])
            frames_FHWC = torch.from_dlpack(sequences[0]).clone()
            if (
                frames_FHWC.is_cuda
            ):  # the copy must end before another run writes over what it reads
                torch.cuda.current_stream(frames_FHWC.device).synchronize()
            return frames_FHWC


class _Pipelines:
    """Pipelines of one device. A thread has one to itself while it decodes: two would take each other's frames."""

    def __init__(self, device_id: int | None) -> None:
        self._device_id = device_id
        self._idle: LifoQueue[Any] = LifoQueue()
        self._places: LifoQueue[None] = LifoQueue()
        for _ in range(_MAX_PIPELINES):
            self._places.put(None)

    @contextmanager
    def borrowed(self) -> Iterator[Any]:
        """An idle pipeline, or a new one; one that failed is given up with its video."""
        self._places.get()
        try:
            try:
                pipeline = self._idle.get_nowait()
            except Empty:
                pipeline = _new_pipeline(self._device_id)
            yield pipeline
            self._idle.put(pipeline)
        finally:
            self._places.put(None)


@cache
def _pipelines(device_id: int | None) -> _Pipelines:
    return _Pipelines(device_id)


def _new_pipeline(device_id: int | None) -> Any:
    """Encoded bytes and frame numbers are its inputs, so it fits every video."""
    pipeline = Pipeline(
        batch_size=1,
        num_threads=1,
        device_id=device_id,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
    )
    with pipeline:
        encoded = fn.external_source(
            name="encoded", dtype=types.DALIDataType.UINT8, ndim=1, no_copy=True
        )
        frames = fn.external_source(name="frames", dtype=types.DALIDataType.INT32, ndim=1)
        device = "cpu" if device_id is None else "mixed"
        pipeline.set_outputs(fn.decoders.video(encoded, frames=frames, device=device, affine=False))
    try:
        pipeline.build()
    except RuntimeError as error:
        where = "on the CPU" if device_id is None else f"on GPU {device_id}"
        raise DecodeSetupError(f"dali cannot run {where}: {first_cause(error)}") from error
    return pipeline
