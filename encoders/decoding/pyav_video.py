"""Frames of one local video on the CPU through FFmpeg's libraries, frame-exact, in one pass over the wanted frames.

FFmpeg sees the file only as a Python file object of a container that we chose, and may open nothing else.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np

from encoders.decoding.pixels import DisplayMatrix, OutBufferFor, no_buffer, orient_frame
from encoders.media.bitstream import has_fragments, is_clean_start, is_shown_vp8
from encoders.media.container import (
    ALLOWED_DECODERS,
    DecodeBackendKind,
    MediaLimits,
    open_local,
    open_options,
    sniff_container,
)
from encoders.media.errors import DecodeError
from encoders.media.frame_index import PacketRow, VideoIndex, index_of_file, index_of_packets
from encoders.media.sampling import SamplingConfig

try:
    import av
    import av.error
    from av.container import InputContainer
    from av.packet import Packet
    from av.sidedata.sidedata import SideDataContainer
    from av.stream import Discard, Disposition
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
    from av.video.stream import VideoStream
except ImportError as error:
    raise ImportError("decoding with pyav needs the package 'av': pip install 'av>=14'") from error

# The conversion of DALI on a CPU, bit for bit: FFmpeg's default shortcut is 1 to 2 levels too dark, and DALI, on a GPU too,
# takes every file for BT.601 whatever it says. Two backends that agree are worth more than the exact hue.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_BT_601: dict[str, Any] = {
    "src_colorspace": Colorspace.ITU601,
    "dst_colorspace": Colorspace.ITU601,
    "threads": 1,
}
_NATIVE_SIZE = Interpolation.BILINEAR | _EXACT
# Averages the area of each new pixel. FULL_CHR_H_INP: every pixel's colour counts where the input is RGB.
_AREA = Interpolation.AREA | _EXACT | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP


class FrameConverter:
    """Decoded frames of one video to RGB arrays; keeps FFmpeg's conversion tables from frame to frame."""

    def __init__(self, sampling: SamplingConfig | None = None) -> None:
        """`sampling` with resize "swscale_area" makes frames of its size; otherwise they keep the size of the video."""
        is_area = sampling is not None and sampling.resize == "swscale_area"
        self._size = sampling.frame_size if sampling is not None and is_area else None
        self._reformatter = VideoReformatter()

    def rgb_frame(self, frame: VideoFrame, out_HWC: np.ndarray | None = None) -> np.ndarray:
        """RGB as shown [H, W, 3]; made in `out_HWC` where that has its size and nothing is to be turned."""
        matrix = display_matrix(frame)
        if matrix is None:
            return self._convert(frame, out_HWC)
        return orient_frame(self._convert(frame), matrix)

    def resized(self, frame_HWC: np.ndarray) -> np.ndarray:
        """A frame that another decoder made, at the size of ours; to a level or two of what one pass gives."""
        if self._is_sized(*frame_HWC.shape[:2]):
            return frame_HWC
        return self._convert(VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), "rgb24"))

    def _is_sized(self, height: int, width: int) -> bool:
        return self._size is None or (height, width) == (self._size, self._size)

    def _convert(self, frame: VideoFrame, out_HWC: np.ndarray | None = None) -> np.ndarray:
        if not self._is_sized(frame.height, frame.width):
            size = {"width": self._size, "height": self._size}
            planar = self._reformat(frame, format="gbrp", interpolation=_AREA, **size)
            return _interleaved(planar, out_HWC)
        if frame.height % 2:  # FFmpeg takes another way to gbrp then, which rounds differently
            rgb = self._reformat(frame, format="rgb24", interpolation=_NATIVE_SIZE)
            return rgb.to_ndarray()
        planar = self._reformat(frame, format="gbrp", interpolation=_NATIVE_SIZE)
        return _interleaved(planar, out_HWC)

    def _reformat(self, frame: VideoFrame, **wanted: Any) -> VideoFrame:
        return self._reformatter.reformat(frame, **wanted, **_BT_601)


def _interleaved(planar: VideoFrame, out_HWC: np.ndarray | None = None) -> np.ndarray:
    """gbrp as [H, W, 3]: to the bits of rgb24, in a third of the time."""
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
            :, : plane.width
        ]
        for plane in planar.planes
    )
    if out_HWC is None or out_HWC.shape[:2] != red.shape:
        return np.asarray(cv2.merge([red, green, blue]))
    cv2.merge([red, green, blue], out_HWC)
    return out_HWC


def display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    """How the frame asks to be turned or mirrored."""
    # Not `frame.side_data`: the frame would hold it, it holds the frame, and each frame's memory waited for the cycle collector
    # while the decoder took new memory for the next ones. PyAV's stub leaves its argument out.
    found = SideDataContainer(frame)  # pyright: ignore[reportCallIssue]
    if len(found) == 0:  # nearly always, and a search in vain costs more than all else here
        return None
    matrix = found.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d


_BUFFER_BYTES = 1 << 18
_READ_ERRORS = (
    av.error.FFmpegError,
    OSError,
)  # the latter where a damaged file has it seek to below 0
# Packets kept from reading the index, and what each takes beside its data: most files are read once, and nothing is sought.
_KEPT_BYTES, _PACKET_BYTES = 32 << 20, 700


class PyavVideo:
    """An open video: its frame index, then its frames. Every error about the file is a DecodeError."""

    backend_used: DecodeBackendKind = "pyav"
    fallback_reason: str | None = None

    def __init__(
        self, path: Path, limits: MediaLimits, sampling: SamplingConfig | None = None
    ) -> None:
        """`sampling` None = frames of the video's own size; see FrameConverter."""
        self.path = path
        self.converter = FrameConverter(sampling)
        self.num_frames_decoded = 0
        self.last_error = ""
        self._has_read_error = False
        self._kept: list[Packet] = []
        self._limits = limits
        self._file = open_local(path)
        try:
            container_format, self._is_short = sniff_container(self._file)
            self._counts_all = self._is_short and not has_fragments(self._file)
            self._file.seek(0)
            self._container = self._open_container(container_format)
        except BaseException:
            self._file.close()
            raise
        try:
            self._stream = self._checked_stream()
            found = index_of_file(self._file, limits, self._read_index)
            self.index, self.has_false_keyframes = found
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._container.close()
        self._file.close()

    def read_frames(
        self, numbers: Iterable[int], out_buffer_for: OutBufferFor = no_buffer
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """(number, RGB frame as shown [H, W, 3]); None for a frame that cannot be decoded."""
        missing: list[int] = []
        for number, frame_HWC in self._read_pass(numbers, out_buffer_for, is_thorough=False):
            if frame_HWC is None:
                missing.append(number)
            else:
                yield number, frame_HWC
        # A keyframe that is none after all, or a decoder that loses count of the display order: read it all.
        yield from self._read_pass(missing, out_buffer_for, is_thorough=True)

    def _read_pass(
        self, numbers: Iterable[int], out_buffer_for: OutBufferFor, *, is_thorough: bool
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """Once through the file, in ascending order; thorough = from its start and every frame.

        Otherwise it seeks, and in H.264 does not decode unwanted frames that no frame refers to (most B-frames). Only H.264
        marks those beyond doubt: in HEVC the mark speaks of one temporal layer.
        """
        may_skip = self.index.codec == "h264" and not is_thorough
        pending = deque(sorted(set(numbers)))
        wanted_pts = {int(self.index.shown_pts[number]) for number in pending}
        position: int | None = None
        packets: Iterator[Packet] = iter(())
        head, start = -1, -1
        while pending:
            if pending[0] != head:
                head = pending[0]
                start = 0 if is_thorough else self.index.start_position(head)
            if position is None or self.index.should_seek(position, start):
                packets, position = self._packets_from(start), start - 1
            packet = next(packets, None)
            position += 1
            if packet is not None:
                is_needed = not may_skip or _pts_dts(packet)[0] in wanted_pts
                self._stream.codec_context.skip_frame = "DEFAULT" if is_needed else "NONREF"
            for frame in self._decode(packet):
                number = self.index.number_of_pts.get(frame.pts)
                while number is not None and pending and pending[0] < number:
                    yield pending.popleft(), None
                if pending and pending[0] == number:
                    buffer = out_buffer_for(pending[0])
                    frame_HWC = (
                        None if frame.is_corrupt else self.converter.rgb_frame(frame, buffer)
                    )
                    yield pending.popleft(), frame_HWC
            if packet is None:
                yield from ((number, None) for number in pending)
                return

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name, "" where the header does not tell."""
        return self._stream.codec_context.pix_fmt or ""

    @property
    def num_video_streams(self) -> int:
        return len(self._container.streams.video)

    def read_display_matrix(self) -> DisplayMatrix | None:
        """How the first frame asks to be turned or mirrored; decodes until that frame comes out."""
        packets = self._packets_from(0)
        while True:
            packet = next(packets, None)
            for frame in self._decode(packet):
                return display_matrix(frame)
            if packet is None:
                raise DecodeError("corrupt_container", f"no frame decodes: {self.last_error}")

    def _open_container(self, container_format: str) -> InputContainer:
        try:
            return av.open(
                self._file,
                mode="r",
                format=container_format,
                options=open_options(self._limits),
                metadata_errors="replace",
                buffer_size=_BUFFER_BYTES,
                io_open=_refuse_to_open,
            )
        except _READ_ERRORS as error:
            raise DecodeError("corrupt_container", f"cannot be opened: {error}") from error

    def _checked_stream(self) -> VideoStream:
        limits, container = self._limits, self._container
        limits.check(max_streams=len(container.streams))
        stream = _first_video(container)
        codec_context = stream.codec_context
        if codec_context is None or codec_context.codec.name not in ALLOWED_DECODERS:
            name = codec_context.codec.name if codec_context is not None else "of the video stream"
            raise DecodeError(
                "codec_unsupported", f"codec {name}; allowed are {', '.join(ALLOWED_DECODERS)}"
            )
        num_pixels = codec_context.width * codec_context.height
        if num_pixels < 1:  # FFmpeg, told of max_pixels above, forgets a larger size
            raise DecodeError("limit_exceeded", "the file names no frame size within max_pixels")
        limits.check(max_pixels=num_pixels, max_frame_rate=float(stream.average_rate or 0))
        # One thread: workers are the parallelism, and no frame is decoded ahead of need.
        codec_context.thread_count = 1
        codec_context.options = {"max_pixels": str(limits.max_pixels)}
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        return stream

    def _read_index(self) -> VideoIndex:
        stream = self._stream
        codec = stream.codec_context.codec.canonical_name
        extradata = stream.codec_context.extradata
        rows: list[PacketRow] = []
        has_false_keyframes = False
        num_bytes = 0
        for packet in self._data_packets():
            is_start = packet.is_keyframe
            if is_start and not is_clean_start(memoryview(packet), codec, extradata):
                is_start, has_false_keyframes = False, True
            is_frame = not packet.is_discard
            if codec == "vp8":
                is_frame = is_frame and is_shown_vp8(memoryview(packet))
            rows.append((*_pts_dts(packet), is_start, is_frame))
            if len(rows) > self._limits.max_frames:
                self._limits.check(max_frames=len(rows))
            num_bytes += packet.size + _PACKET_BYTES
            self._kept.append(packet)
            if num_bytes > _KEPT_BYTES:
                self._kept.clear()
        has_all = self._counts_all and 0 < stream.frames <= len(rows)
        index = index_of_packets(
            rows,
            time_base=stream.time_base or stream.codec_context.time_base,
            codec=codec,
            size=(stream.codec_context.width, stream.codec_context.height),
            is_truncated=self._has_read_error or (self._is_short and not has_all),
        )
        if index.num_frames == 0:
            raise DecodeError("corrupt_container", "the video stream has no frames")
        return VideoIndex(index, has_false_keyframes)

    def _packets_from(self, start: int) -> Iterator[Packet]:
        """Seeks to a keyframe: lands at or before it, wherever the container's own index points, and drops what lies before."""
        if self._kept:
            self._stream.codec_context.flush_buffers()
            return iter(self._kept[start:])
        index, stream = self.index, self._stream
        earliest = min(int(index.dts_P[0]), int(index.pts_P.min()))
        for timestamp in (min(int(index.dts_P[start]), int(index.pts_P[start])), earliest):
            try:
                self._container.seek(timestamp, stream=stream, backward=True)
            except _READ_ERRORS as error:
                self.last_error = str(error)
                continue
            packets = self._data_packets()
            for packet in packets:
                position = index.position_of_pts.get(_pts_dts(packet)[0], index.num_packets)
                if position == start:
                    return chain([packet], packets)
                if position > start:
                    break
        raise DecodeError("corrupt_container", f"cannot seek to packet {start}: {self.last_error}")

    def _data_packets(self) -> Iterator[Packet]:
        """Packets as the index counts them; a read error ends them."""
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    self._has_read_error = True
                elif packet.size > 0:  # 0 = the flush packet at the end
                    yield packet
        except _READ_ERRORS as error:
            self._has_read_error = True
            self.last_error = str(error)

    def _decode(self, packet: Packet | None) -> list[VideoFrame]:
        """The frames that come out when one more packet goes in, or when the end (None) is told."""
        try:
            frames = self._stream.codec_context.decode(packet)
        except MemoryError as error:
            raise DecodeError("limit_exceeded", "decoding needs too much memory") from error
        except av.error.FFmpegError as error:
            # A damaged packet costs the frames that need it: they never come out, and the caller sees them missing.
            self.last_error = str(error)
            return []
        self.num_frames_decoded += len(frames)
        return frames


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(f"a media file may not open {url!r}")


def _first_video(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise DecodeError("no_video_stream", f"{len(container.streams)} stream(s), none of them video")


def _pts_dts(packet: Packet) -> tuple[int, int]:
    pts = packet.pts if packet.pts is not None else packet.dts
    dts = packet.dts if packet.dts is not None else packet.pts
    if pts is None or dts is None:
        raise DecodeError("corrupt_container", "a packet has no time")
    return pts, dts
