"""The packets of a file's video stream by their position in decoding order, read in one go or from a keyframe.

FFmpeg sees the file only as a Python file object of a container that we chose, and may open nothing else.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

from encoders.media.bitstream import has_fragments
from encoders.media.container import (
    ALLOWED_DECODERS,
    HOW_TO_CONVERT,
    MediaLimits,
    open_local,
    open_options,
    sniff_container,
)
from encoders.media.errors import DecodeError
from encoders.media.frame_index import FrameIndex
from encoders.media.packet_table import PacketRow, PacketTable
from encoders.media.picture_headers import picture_reader

try:
    import av
    import av.error
    from av.bitstream import BitStreamFilterContext
    from av.container import InputContainer
    from av.packet import Packet, PacketSideData
    from av.stream import Discard, Disposition
    from av.video.stream import VideoStream
except ImportError as error:
    raise ImportError("decoding with pyav needs the package 'av': pip install 'av>=14'") from error

_BUFFER_BYTES = 1 << 18
READ_ERRORS = (
    av.error.FFmpegError,
    OSError,
)  # the latter where a damaged file has it seek to below 0
# Containers of broadcasts: a lost part is marked in the packet around it, the stream goes on behind it. Their clocks jump, and they
# have no index, but they can be entered at any byte; in all others the demuxer finds a time.
_BROADCAST = ("mpegts", "mpeg")
# Packets kept from reading the table, and what each takes beside its data: most files are read once, and nothing is sought.
_PALETTE = "palette"
_KEPT_BYTES, _PACKET_BYTES = 32 << 20, 700


class PacketReader:
    """An open file and its video stream."""

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        self.last_error = ""
        self.has_read_error = self._has_gaps = False
        self._limits = limits
        self._kept: list[Packet] = []
        self._palettes: dict[int, PacketSideData] = {}
        """By the position of the packet that brings it."""
        self.file = open_local(path)
        try:
            self.container_format, self.is_short = sniff_container(self.file)
            is_mov = self.container_format == "mov"
            self._counts_all = is_mov and self.is_short and not has_fragments(self.file)
            self._container = self._open()
        except BaseException:
            self.file.close()
            raise
        try:
            self._stream = self._checked_stream()
        except BaseException:
            self.close()
            raise
        # Outlives its container: a file that is read from its start once more is opened once more.
        self.codec_context = self._stream.codec_context
        self.codec_context.thread_count = (
            1  # workers are the parallelism, and no frame is decoded ahead of need
        )
        self.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        self.num_video_streams = len(self._container.streams.video)
        self.time_base = self._stream.time_base or self.codec_context.time_base
        self._position = 0
        self._packets = self._demux()
        self._can_seek = True

    @property
    def header_texts(self) -> dict[str, str]:
        """What the header says in words, such as timecode and reel_name; of a name that comes twice, the file's comes first."""
        streams = self._container.streams
        texts: dict[str, str] = {}
        for metadata in (self._container.metadata, *(stream.metadata for stream in streams)):
            texts = {name.lower(): text for name, text in metadata.items()} | texts
        return texts

    def new_filter(self, name: str) -> BitStreamFilterContext:
        """FFmpeg's bitstream filter of this name for the video stream."""
        return BitStreamFilterContext(name, self._stream)

    @property
    def is_broadcast(self) -> bool:
        """Whether a frame of which parts were lost on the way is shown as well as may be, as players do."""
        return self.container_format in _BROADCAST

    def close(self) -> None:
        self._container.close()
        self.file.close()

    def read_table(self) -> PacketTable:
        """All packets. ValueError for none; DecodeError for more than the limit."""
        codec_context = self.codec_context
        read_picture = picture_reader(codec_context.codec.canonical_name, codec_context.extradata)
        rows: list[PacketRow] = []
        has_false_keyframes = False
        num_bytes = 0
        for packet in self._demux():
            picture = read_picture(memoryview(packet))
            is_start = packet.is_keyframe
            if is_start and not picture.is_clean_start:
                is_start, has_false_keyframes = False, True
            is_shown = picture.is_shown and not packet.is_discard
            place = -1 if packet.pos is None else packet.pos, packet.size
            times = packet.pts, packet.dts, packet.duration or 0
            rows.append(PacketRow(*times, is_start, is_shown, picture.order, *place))
            if len(rows) > self._limits.max_frames:
                self._limits.check(max_frames=len(rows))
            num_bytes += packet.size + _PACKET_BYTES
            packet.pts = len(rows) - 1
            if packet.has_sidedata(_PALETTE):
                self._palettes[packet.pts] = packet.get_sidedata(_PALETTE)
            self._kept.append(packet)
            if num_bytes > _KEPT_BYTES:
                self._kept.clear()
        self._position, self._packets = len(rows), iter(())
        has_all = self._counts_all and 0 < self._stream.frames <= len(rows)
        table = PacketTable(
            rows,
            has_false_keyframes=has_false_keyframes,
            has_gaps=self._has_gaps,
            is_truncated=self.has_read_error or (self.is_short and not has_all),
        )
        table.join_clocks(self.time_base, is_broadcast=self.is_broadcast)
        return table

    def packets_from(self, start: int, index: FrameIndex | None = None) -> Iterator[Packet]:
        """Packets from a position on, each with its position as `pts`: frames are told by the packet that they come from.

        With an index it seeks, until a seek of this file has not led closer; without, it reads on from where it is, or from the start
        of the file.
        """
        packets = self._packets_from(start, index)
        if before := [position for position in self._palettes if position <= start]:
            packets = self._with_palette(packets, self._palettes[max(before)])
        return packets

    def _with_palette(self, packets: Iterator[Packet], palette: PacketSideData) -> Iterator[Packet]:
        """A container gives a palette with the packet from which on it holds: a decoder that begins behind it needs it too."""
        for first in islice(packets, 1):
            if not first.has_sidedata(_PALETTE):
                first.set_sidedata(palette)
            yield first
        yield from packets

    def _packets_from(self, start: int, index: FrameIndex | None) -> Iterator[Packet]:
        self.codec_context.flush_buffers()
        if self._kept:
            return iter(self._kept[start:])
        if index is not None and self._can_seek and start != self._position:
            position = self._position
            self._can_seek = self._seek(start, index)
            if self._can_seek:
                # Otherwise the index of the container is too coarse: many wanted frames would each be read up to from far away.
                self._can_seek = start < position or self._position > position
                return self._checked(start, index)
            self._reopen()
        elif self._position > start:
            self._reopen()
        return self._numbered(start)

    def _numbered(self, start: int) -> Iterator[Packet]:
        """The packets that come next, from the start position on."""
        for packet in self._packets:
            packet.pts = self._position
            self._position += 1
            if packet.pts >= start:
                yield packet

    def _checked(self, start: int, index: FrameIndex) -> Iterator[Packet]:
        """As `_numbered`, after a seek; where other packets come than in one go, or fewer, it reads from the start of the file instead."""
        position = start
        for packet in self._packets:
            if not index.is_at(self._position, packet.pos, packet.size):
                break
            packet.pts = self._position
            self._position += 1
            if packet.pts >= start:
                position = self._position
                yield packet
        if self._position < len(index.pts_P):
            self._can_seek = False
            self._reopen()
            yield from self._numbered(position)

    def _reopen(self) -> None:
        self._container.close()
        self._container = self._open()
        self._stream = self._checked_stream()
        self._position = 0
        self._packets = self._demux()

    def _seek(self, start: int, index: FrameIndex) -> bool:
        """Goes to a packet or before it; False where the seek leads elsewhere."""
        if self.is_broadcast:
            targets = [index.offset_before(start)]
        else:
            # Of the keyframe's two times the demuxer goes by one, and the earlier may lie in the group of pictures before it.
            times = {int(index.dts_P[start]), int(index.pts_P[start])}
            earliest = min(int(index.dts_P[0]), int(index.pts_P.min()))
            targets = [*sorted(times, reverse=True), earliest]
        for target in targets:
            try:
                if self.is_broadcast:
                    self._container.seek(target, unsupported_byte_offset=True)
                else:
                    self._container.seek(target, stream=self._stream, backward=True)
            except READ_ERRORS as error:
                self.last_error = str(error)
                continue
            self._packets = self._demux()
            first = next(self._packets, None)
            position = None if first is None else index.position_of_place(first.pos, first.size)
            if first is not None and position is not None and position <= start:
                self._packets, self._position = chain([first], self._packets), position
                return True
        return False

    def _open(self) -> InputContainer:
        self.file.seek(0)
        try:
            return av.open(
                self.file,
                mode="r",
                format=self.container_format,
                options=open_options(self._limits),
                metadata_errors="replace",
                buffer_size=_BUFFER_BYTES,
                io_open=_refuse_to_open,
            )
        except READ_ERRORS as error:
            raise DecodeError("corrupt_container", f"cannot be opened: {error}") from error

    def _checked_stream(self) -> VideoStream:
        limits, container = self._limits, self._container
        limits.check(max_streams=len(container.streams))
        stream = _first_video(container)
        codec_context = stream.codec_context
        if codec_context is None or codec_context.codec.name not in ALLOWED_DECODERS:
            name = codec_context.codec.name if codec_context is not None else "of the video stream"
            raise DecodeError("codec_unsupported", f"codec {name} is not decoded; {HOW_TO_CONVERT}")
        num_pixels = codec_context.width * codec_context.height
        if num_pixels < 1:  # FFmpeg, told of max_pixels above, forgets a larger size
            raise DecodeError("limit_exceeded", "the file names no frame size within max_pixels")
        limits.check(max_pixels=num_pixels)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        return stream

    def _demux(self) -> Iterator[Packet]:
        """Packets as the table counts them; a read error ends them."""
        try:
            for packet in self._stream_packets():
                if packet.is_corrupt and self.is_broadcast:
                    self._has_gaps = True
                elif packet.is_corrupt:
                    self.has_read_error = True
                    continue
                if packet.size > 0:  # 0 = the flush packet at the end
                    yield packet
        except READ_ERRORS as error:
            self.has_read_error = True
            self.last_error = str(error)

    def _stream_packets(self) -> Iterator[Packet]:
        """A broadcast may begin new streams while it is read: PyAV stumbles over their first packet, and goes on when asked again."""
        for _ in range(self._limits.max_streams):
            try:
                yield from self._container.demux(self._stream)
                return
            except IndexError:
                self._has_gaps = True
        self._limits.check(max_streams=self._limits.max_streams + 1)


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(f"a media file may not open {url!r}")


def _first_video(container: InputContainer) -> VideoStream:
    """The first that is no cover picture; of a broadcast that begins amid its programs, the first whose size is known."""
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        count = len(container.streams)
        raise DecodeError("no_video_stream", f"{count} stream(s), none of them video")
    known = (
        stream
        for stream in streams
        if stream.codec_context is not None and stream.codec_context.width
    )
    return next(known, streams[0])
