"""Frames of one local video on the CPU through FFmpeg's libraries, frame-exact, in one pass over the wanted frames."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from encoders.decoding.frames.converter import FrameConverter, display_matrix
from encoders.decoding.frames.pixels import DisplayMatrix, OutBufferFor, no_buffer
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import VideoIndex, index_of_file, index_of_packets
from encoders.media.nal_headers import is_damaged, unit_length_size
from encoders.media.packet_table import DecodedStart, PacketTable
from encoders.media.packets import PacketReader
from encoders.media.sampling import SamplingConfig

try:
    import av.error
    from av.packet import Packet
    from av.video.frame import VideoFrame
except ImportError as error:
    raise ImportError("decoding with pyav needs the package 'av': pip install 'av>=14'") from error

# Frames by which a decoder may be late with one, before it counts as lost (the most that H.264 holds back, and some).
_MAX_LATE = 32


class PyavVideo:
    """An open video: its frame index, then its frames. Every error about the file is a DecodeError."""

    backend_used: str = "pyav"
    fallback_reason: str | None = None

    def __init__(
        self, path: Path, limits: MediaLimits, sampling: SamplingConfig | None = None
    ) -> None:
        """`sampling` None = frames of the video's own size; see FrameConverter."""
        self.path, self.sampling = path, sampling
        self.converter = FrameConverter(sampling)
        self.num_frames_decoded = 0
        self._last_error = ""
        self._limits = limits
        self._reader = PacketReader(path, limits)
        self._codec_context = self._reader.codec_context
        try:
            self.index, self.has_false_keyframes = index_of_file(
                self._reader.file, limits, self._read_index
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._reader.close()

    @property
    def last_error(self) -> str:
        """What FFmpeg said last of the file."""
        return self._last_error or self._reader.last_error

    @property
    def container_format(self) -> str:
        """FFmpeg's name of the demuxer."""
        return self._reader.container_format

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name, "" where the header does not tell."""
        return self._codec_context.pix_fmt or ""

    @property
    def profile(self) -> str:
        """FFmpeg's name of the codec's profile, "" where the header does not tell."""
        return self._codec_context.profile or ""

    @property
    def field_order(self) -> int:
        """FFmpeg's AVFieldOrder: 0 = unknown, 1 = progressive, above = interlaced."""
        return int(self._codec_context.field_order)

    @property
    def is_full_range(self) -> bool:
        """Whether luma and chroma use all 256 levels."""
        return self.pixel_format.startswith("yuvj") or self._codec_context.color_range == 2

    @property
    def header_texts(self) -> dict[str, str]:
        """What the header says in words, by lower-case names such as timecode."""
        return self._reader.header_texts

    @property
    def num_video_streams(self) -> int:
        return self._reader.num_video_streams

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

    def elementary_packets(self, start: int, filter_name: str) -> Iterator[tuple[int, bytes]]:
        """(position, data) of the packets from a position on, through a bitstream filter: what a decoder without a demuxer reads."""
        packets = self._reader.packets_from(start, self.index)
        bitstream_filter = self._reader.new_filter(filter_name)
        for packet in packets:
            copy = Packet(
                bytes(packet)
            )  # the filter takes what it is given, and the reader keeps packets
            copy.pts = packet.pts
            for filtered in bitstream_filter.filter(copy):
                yield packet.pts or 0, bytes(filtered)

    def has_damaged_packet(self, numbers: Iterable[int]) -> bool:
        """Whether a packet that these frames decode from cannot be what an encoder wrote; see is_damaged, which H.264 and HEVC have."""
        codec_context, index = self._codec_context, self.index
        length_size = unit_length_size(index.codec, bytes(codec_context.extradata or b""))
        if not length_size:
            return False
        last_by_start: dict[int, int] = {}
        for number in sorted(set(numbers)):
            start, position = index.start_position(number), int(index.shown_positions[number])
            last_by_start[start] = max(last_by_start.get(start, 0), position)
        return any(
            is_damaged(memoryview(packet), length_size)
            for start, last in last_by_start.items()
            for packet in islice(self._reader.packets_from(start, index), last - start + 1)
        )

    def _read_pass(
        self, numbers: Iterable[int], out_buffer_for: OutBufferFor, *, is_thorough: bool
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """Once through the file, in ascending order; thorough = from its start and every frame.

        Otherwise it seeks, and in H.264 does not decode unwanted frames that no frame refers to (most B-frames). Only H.264
        marks those beyond doubt: in HEVC the mark speaks of one temporal layer.
        """
        index = self.index
        may_skip = index.codec == "h264" and not is_thorough and not index.has_gaps
        pending = dict.fromkeys(sorted(set(numbers)))  # as an ordered set
        wanted_positions = {int(index.shown_positions[number]) for number in pending}
        num_shown: Counter[int | None] = Counter()
        position: int | None = None
        packets: Iterator[Packet] = iter(())
        head, start, last = -1, -1, -1
        while pending:
            first = next(iter(pending))
            if first != head:
                head = first
                start = 0 if is_thorough else index.start_position(head)
            if position is None or index.should_seek(position, start):
                packets, position = self._reader.packets_from(start, index), start - 1
                num_shown.clear()
            packet = next(packets, None)
            position += 1
            if packet is not None:
                is_needed = not may_skip or packet.pts in wanted_positions
                self._codec_context.skip_frame = "DEFAULT" if is_needed else "NONREF"
            for frame in self._decode(packet):
                number = self._number_of(frame, num_shown, last if packet is None else None)
                if number is None:
                    continue
                last = number
                while (first := next(iter(pending), number)) < number - _MAX_LATE:
                    del pending[first]
                    yield first, None
                if number in pending:
                    del pending[number]
                    buffer = out_buffer_for(number)
                    is_shown_as_is = self._reader.is_broadcast or number < index.num_decoded
                    is_whole = is_shown_as_is or not frame.is_corrupt
                    yield number, self.converter.rgb_frame(frame, buffer) if is_whole else None
            if packet is None:
                yield from ((number, None) for number in pending)
                return

    def _number_of(
        self, frame: VideoFrame, num_shown: Counter[int | None], at_end: int | None
    ) -> int | None:
        """The frame's number, by the packet that it comes from; of a packet with several, by how many came before it.

        `at_end` is the number before it where no packet is left: MPEG-4 gives its last picture the time of a packet behind it that
        holds none.
        """
        numbers = self.index.numbers_of_position.get(frame.pts, ())
        if not numbers and at_end == self.index.num_frames - 2:
            return self.index.num_frames - 1
        if len(numbers) < 2:
            return numbers[0] if numbers else None
        num_shown[frame.pts] += 1
        turn = num_shown[frame.pts] - 1
        return numbers[turn] if turn < len(numbers) else None

    def read_appearance(self) -> tuple[DisplayMatrix | None, int]:
        """How the first frame asks to be turned or mirrored, and the number of its colour matrix; decodes until that frame comes out."""
        packets = self._reader.packets_from(0, self.index)
        while True:
            packet = next(packets, None)
            for frame in self._decode(packet):
                return display_matrix(frame), self.converter.matrix_code_of(frame)
            if packet is None:
                raise DecodeError("corrupt_container", f"no frame decodes: {self.last_error}")

    def _read_index(self) -> VideoIndex:
        reader, codec_context = self._reader, self._codec_context
        table = reader.read_table()
        index = index_of_packets(
            table,
            time_base=reader.time_base,
            codec=codec_context.codec.canonical_name,
            size=(codec_context.width, codec_context.height),
            decoded=self._decoded_start(table),
        )
        if index.num_frames == 0:
            raise DecodeError("corrupt_container", f"no frame can be decoded: {self.last_error}")
        # By the times of the frames: what headers call their rate is often the tick of the clock, or of a field.
        _, frame_s = index.sound_end
        if frame_s > 0:
            self._limits.check(max_frame_rate=1 / frame_s)
        return VideoIndex(index, table.has_false_keyframes)

    def _decoded_start(self, table: PacketTable) -> DecodedStart | None:
        """The frames of the first packets as the decoder gives them, where the table does not tell."""
        num_packets = table.num_to_decode()
        if not num_packets:
            return None
        frames: list[tuple[int, int | None]] = []
        packets = self._reader.packets_from(0)
        is_behind = False
        while not is_behind:
            packet = next(packets, None)
            for frame in self._decode(packet):
                is_behind = is_behind or (frame.pts is not None and frame.pts >= num_packets)
                if frame.pts is not None and frame.pts < num_packets:
                    frames.append((frame.pts, frame.dts))
            is_behind = is_behind or packet is None
        return table.start_decoded(num_packets, frames)

    def _decode(self, packet: Packet | None) -> list[VideoFrame]:
        """The frames that come out when one more packet goes in, or when the end (None) is told."""
        try:
            frames = self._codec_context.decode(packet)
        except MemoryError as error:
            raise DecodeError("limit_exceeded", "decoding needs too much memory") from error
        except av.error.FFmpegError as error:
            # A damaged packet costs the frames that need it: they never come out, and the caller sees them missing.
            self._last_error = str(error)
            return []
        self.num_frames_decoded += len(frames)
        return frames
