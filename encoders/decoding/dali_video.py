"""Frames of one local video through NVIDIA DALI: NVDEC on a GPU, and on a CPU the codecs that DALI decodes there.

The frame numbers come from the index that the pyav backend uses, and so does the check of the file: DALI gets the bytes of a
file that PyavVideo has accepted, and no path. What DALI cannot decode exactly goes through PyavVideo, and `fallback_reason`
says why.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from encoders.decoding.frames.color import recolor
from encoders.decoding.frames.pixels import OutBufferFor, no_buffer, orient_frame, turn_and_mirrors
from encoders.decoding.pyav_video import PyavVideo
from encoders.media.errors import DecodeSetupError
from encoders.media.frame_index import FrameIndex

try:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline
except ImportError as error:
    raise ImportError(
        "decoding with dali needs the package 'nvidia-dali-cuda130': pip install -e '.[dali]'"
    ) from error

CPU_CODECS = frozenset({"vp8", "vp9", "mjpeg"})
GPU_CODECS = CPU_CODECS | {"h264", "hevc", "av1", "mpeg4"}
_CONTAINERS = ("mov", "matroska")
# Decoded frames that DALI holds at once; each further run reads the file's packet table again.
_RUN_BYTES = 256 << 20
# One pipeline per process: two threads that feed it would take each other's frames, or wait for ever.
_TURN = threading.Lock()


class DaliVideo:
    """A FrameSource over a video that PyavVideo opened."""

    def __init__(self, video: PyavVideo, device: str, *, keeps_on_device: bool = False) -> None:
        """`keeps_on_device`: frames are torch tensors where DALI decoded them, of the video's own size."""
        self._video = video
        self._device_id = _device_id(device)
        self._keeps_on_device = keeps_on_device
        self._num_frames_decoded = 0
        self.fallback_reason: str | None = _why_not(video, self._device_id)
        self.last_error = ""
        if self.fallback_reason is None:
            self._display_matrix, self._matrix_code = video.read_appearance()
            _pipeline(self._device_id)

    @property
    def index(self) -> FrameIndex:
        return self._video.index

    @property
    def backend_used(self) -> str:
        return "dali" if self.fallback_reason is None else "pyav"

    @property
    def num_frames_decoded(self) -> int:
        """DALI does not tell: counted are the frames from each needed keyframe to the last that is wanted after it."""
        return self._video.num_frames_decoded + self._num_frames_decoded

    def read_frames(
        self, numbers: Iterable[int], out_buffer_for: OutBufferFor = no_buffer
    ) -> Iterator[tuple[int, Any]]:
        """(number, RGB frame as shown [H, W, 3]); None for a frame that cannot be decoded."""
        wanted = sorted(set(numbers))
        if self.fallback_reason is None and self._device_id is not None:
            self.fallback_reason = nvdec_unsupported_reason(
                self.index, self._video.pixel_format, wanted
            )
        per_run = max(_RUN_BYTES // (self.index.width * self.index.height * 3), 1)
        while wanted and self.fallback_reason is None:
            now, later = wanted[:per_run], wanted[per_run:]
            try:
                frames_FHWC = self._run(now)
            except RuntimeError as error:
                # DALI gives up its pipeline with the video; the next video gets a new one.
                _pipeline.cache_clear()
                self.fallback_reason = f"dali failed: {_cause(error)}"
                break
            self._num_frames_decoded += self.index.num_packets_for(now)
            for number, frame_HWC in zip(now, frames_FHWC, strict=True):
                yield number, self._shown(frame_HWC)
            wanted = later
        for number, frame_HWC in self._video.read_frames(wanted, out_buffer_for):
            self.last_error = self._video.last_error
            yield number, frame_HWC

    def _run(self, numbers: list[int]) -> Any:
        """[F, H, W, 3] on the host, or a tensor on the device; either a copy, for DALI writes its own again."""
        with _TURN:
            pipeline = _pipeline(self._device_id)
            pipeline.feed_input("encoded", [np.memmap(self._video.path, np.uint8, mode="r")])
            pipeline.feed_input("frames", [np.array(numbers, np.int32)])
            (sequences,) = pipeline.run()
            if self._keeps_on_device:
                frames_FHWC = torch.from_dlpack(sequences.at(0)).clone()
                if (
                    frames_FHWC.is_cuda
                ):  # only on its way: another thread's run would write over what is read
                    torch.cuda.current_stream(frames_FHWC.device).synchronize()
            else:
                frames_FHWC = np.array(sequences.as_cpu().at(0))
        expected = (len(numbers), self.index.height, self.index.width, 3)
        if tuple(frames_FHWC.shape) != expected:
            raise RuntimeError(f"frames of shape {tuple(frames_FHWC.shape)} instead of {expected}")
        return frames_FHWC

    def _shown(self, frame_HWC: Any) -> Any:
        """In the colours of its matrix, and as the display matrix shows it. DALI takes every file for BT.601."""
        matrix = self._display_matrix
        if self._keeps_on_device:
            frame_HWC = recolor(frame_HWC, self._matrix_code)
        else:
            frame_HWC = recolor(torch.from_numpy(frame_HWC), self._matrix_code).numpy()
        if self._keeps_on_device:
            if matrix is None:
                return frame_HWC
            swaps, mirrored = turn_and_mirrors(matrix)
            return torch.flip(frame_HWC.transpose(0, 1) if swaps else frame_HWC, mirrored)
        shown_HWC = frame_HWC if matrix is None else orient_frame(frame_HWC, matrix)
        return self._video.converter.resized(shown_HWC)


@cache
def _pipeline(device_id: int | None) -> Any:
    """One pipeline per process and device: encoded bytes and frame numbers are its inputs, so it fits every video."""

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
        raise DecodeSetupError(f"dali cannot run {where}: {_cause(error)}") from error
    return pipeline


def _device_id(device: str) -> int | None:
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return None
    if kind == "cuda" and (number or "0").isdigit():
        return int(number or "0")
    raise ValueError(f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:N'")


def _why_not(video: PyavVideo, device_id: int | None) -> str | None:
    """Why this video's frames would not be the same ones through DALI; None if they would."""
    index = video.index
    codecs = CPU_CODECS if device_id is None else GPU_CODECS
    if index.codec not in codecs:
        where = "on a CPU" if device_id is None else "on a GPU"
        return f"dali does not decode {index.codec} {where}"
    if video.container_format not in _CONTAINERS:
        return "dali opens MP4/MOV and Matroska/WebM only"
    if index.decoded is not None:
        return "the file's packets do not tell which frames it shows, and when"
    if index.num_frames != index.num_packets:
        return "the file has packets that are not shown, which dali counts as frames"
    if index.is_truncated:
        return "the file is cut off"
    if video.has_false_keyframes:
        return "the file has keyframes at which dali may not start (periodic intra refresh)"
    if video.num_video_streams > 1:
        return f"the file has {video.num_video_streams} video streams"
    return None


def _cause(error: RuntimeError) -> str:
    """The line of DALI's long message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    after = [
        line for line, before in zip(lines[1:], lines, strict=False) if before == "encountered:"
    ]
    return (after or lines or ["no message"])[0]


# Shortest and longest width and height that NVDEC takes on any GPU since Pascal (NVDEC Video Decoder API Programming Guide,
# table 1, and cuvidGetDecoderCaps); newer ones may take more of H.264. DALI decodes MJPEG elsewhere.
_SIZES = {
    "h264": ((48, 16), (4096, 4096)),
    "vp8": ((48, 16), (4096, 4096)),
    "mpeg4": ((48, 16), (2032, 2032)),
    "hevc": ((144, 144), (8192, 8192)),
    "vp9": ((128, 128), (8192, 8192)),
    "av1": ((128, 128), (8192, 8192)),
}
# More bits or colour samples: some GPUs decode them, and to other colours than the CPU.
_PIXEL_FORMATS = ("yuv420p", "yuvj420p")
# Of the packets: DALI reads the whole file for any frame of it, PyAV seeks. Not measured yet, chosen so that a file is read
# for at least a frame of each group of 50.
_SPARSE = 0.02


def nvdec_unsupported_reason(
    index: FrameIndex, pixel_format: str, numbers: Sequence[int]
) -> str | None:
    """Why the CPU should decode these frames; None = NVDEC. The same words for every video of a kind: summaries count them."""
    if index.codec in _SIZES:
        (least_width, least_height), (width, height) = _SIZES[index.codec]
        if not (least_width <= index.width <= width and least_height <= index.height <= height):
            return f"{index.codec} of another size; NVDEC takes {least_width} x {least_height} to {width} x {height}"
        if pixel_format not in _PIXEL_FORMATS:
            return f"{index.codec} in pixel format {pixel_format or 'unknown'}; NVDEC gives the same colours for {' and '.join(_PIXEL_FORMATS)}"
    num_needed = index.num_packets_for(numbers)
    if num_needed < _SPARSE * index.num_packets:
        return f"sparse: under {_SPARSE:.0%} of the packets are needed, and dali reads them all"
    return None
