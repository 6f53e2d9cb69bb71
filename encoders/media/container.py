"""The allow-list of containers and codecs, and the resource limits that are checked before decoding.

A media file is hostile until decoded: only these checks look at it before FFmpeg does, and they never follow a reference out of
the file.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote_to_bytes, urlsplit

from encoders.media.bitstream import boxes_end, ends_amid_frames
from encoders.media.errors import DecodeError

# The name is FFmpeg's demuxer. No playlists (hls, dash, concat), no image sequences, nothing that opens a second file.
ContainerFormat = Literal["mov", "matroska", "mpegts", "mpeg", "avi", "mxf", "flv", "asf"]
CONTAINER_NAMES = "MP4/MOV, Matroska/WebM, MPEG-TS, MPEG-PS, AVI, MXF, FLV and ASF/WMV"
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mxf", ".flv", ".f4v", ".wmv", ".asf"),
    *(".ts", ".m2ts", ".mts", ".m2t", ".trp", ".mpg", ".mpeg", ".m2p", ".vob", ".mod", ".tod", ".qt", ".3g2", ".divx"),
)  # fmt: skip
"""Files with these names are listed as videos, in lower or upper case; where a name has several, the first."""
# Names of FFmpeg's decoders, software only.
ALLOWED_DECODERS = (
    *("h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "libaom-av1"),
    *("mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "h263", "h263p", "flv", "vp6", "vp6f"),
    *("msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1"),
    *("prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "png", "qtrle", "rawvideo"),
)  # fmt: skip
HOW_TO_CONVERT = "convert it: ffmpeg -i FILE -c:v libx264 -crf 16 -fps_mode passthrough FILE.mp4"
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"}
_EBML_ID, _SEGMENT_ID = 0x1A45DFA3, 0x18538067
_MAGIC: dict[ContainerFormat, bytes] = {
    "mpeg": b"\0\0\1\xba",
    "flv": b"FLV\1",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "mxf": bytes.fromhex("060e2b34020501010d010201"),
}
# Recordings begin amid a packet, or with damaged ones; so many in a row that begin with 0x47 are no accident.
_HEAD_BYTES, _NUM_SYNC_BYTES = 8192, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaLimits:
    """What a media file may ask for; checked before its first frame is decoded."""

    max_pixels: int = 8192 * 4320
    """Width times height of one frame."""
    max_streams: int = 32
    """Number of streams in a file."""
    max_duration_s: float = 26 * 3600.0
    """Seconds after a video's first frame at which a clip may end; the default holds the recording of a whole day."""
    max_frame_rate: float = 300.0
    """Frames per second, by the times of the frames and not by the rate in the file's header."""
    max_frames: int = 26 * 3600 * 60
    """Number of frames of a video; the table of a video takes some 400 bytes for each."""
    min_frames_per_clip: int = 2
    """Number of frames that a clip must have: one frame shows no motion, and its clip fails as too_short."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def unusual(self) -> dict[str, float]:
        """Those that are not the usual ones."""
        usual = MediaLimits()
        names = self.__dataclass_fields__
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(usual, n)}

    def check(self, **values: float) -> None:
        """Raises where a value is above the limit of the same name: check(max_pixels=width * height)."""
        for name, value in values.items():
            if value > getattr(self, name):
                raise DecodeError(
                    "limit_exceeded",
                    f"{name} is {getattr(self, name):g}; the file has {value:g} (option {name.replace('_', '-')})",
                )


LIMITS_OF_AN_ARCHIVE = MediaLimits(
    max_pixels=16_384**2,
    max_streams=1_000,
    max_duration_s=366 * 86_400.0,
    max_frame_rate=100_000.0,
    max_frames=100_000_000,
    min_frames_per_clip=1,
)
"""Of videos that an archive holds: whoever indexed them may have raised the limits."""


def path_of(video: str | Path) -> Path:
    """A path or file:// URI as a path, whether or not something is there."""
    return Path(video) if isinstance(video, Path) or "://" not in video else _path_of_uri(video)


def local_path(video: str | Path) -> Path:
    """A path or file:// URI as the path of an existing regular file that is not empty."""
    path = path_of(video)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise DecodeError("fetch_failed", f"{video}: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError("fetch_failed", f"{video} is not a regular file")
    if status.st_size == 0:
        raise DecodeError("empty_file", f"{video} has 0 bytes")
    return path


def open_options(limits: MediaLimits) -> dict[str, str]:
    """What FFmpeg is told while it opens a file, for what it does before anybody can check its findings."""
    return {
        "codec_whitelist": ",".join(ALLOWED_DECODERS),
        "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,mxf,flv,asf",
        "protocol_whitelist": "none",
        "enable_drefs": "0",
        "max_streams": str(limits.max_streams + 1),
        "max_pixels": str(limits.max_pixels),
    }


def open_local(path: Path) -> BinaryIO:
    """The file for reading; one that went away or is not ours to read is `fetch_failed`."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DecodeError("fetch_failed", f"{path}: {error}") from error


def sniff_container(file: BinaryIO) -> tuple[ContainerFormat, bool]:
    """The container by its first bytes, never by its name, and whether the file is shorter than it says."""
    file.seek(0, 2)
    num_bytes = file.tell()
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head[4:8] in _FIRST_BOXES:
        return "mov", boxes_end(file, num_bytes) > num_bytes
    if int.from_bytes(head[:4], "big") == _EBML_ID:
        return "matroska", _segment_end(file, num_bytes) > num_bytes
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi", ends_amid_frames(file, num_bytes)
    for container_format, magic in _MAGIC.items():
        if head.startswith(magic):
            return container_format, False
    if _is_transport_stream(head):
        return "mpegts", False
    if _has_pack(head):
        return "mpeg", False
    raise DecodeError(
        # Not the bytes themselves: the file may be one that its reader was not meant to see.
        "container_not_allowed",
        f"its first bytes are those of no container that is read ({CONTAINER_NAMES}); {HOW_TO_CONVERT}",
    )


def _is_transport_stream(head: bytes) -> bool:
    """Whether packets of 188 bytes (also with 4 bytes of time in front, or 16 of error correction behind) follow each other."""
    for packet_bytes in (188, 192, 204):
        count = min(_NUM_SYNC_BYTES, len(head) // packet_bytes)
        start = head.find(b"\x47") if count > 2 else -1
        while 0 <= start <= len(head) - (count - 1) * packet_bytes - 1:
            if (
                head[start : start + (count - 1) * packet_bytes + 1 : packet_bytes]
                == b"\x47" * count
            ):
                return True
            start = head.find(b"\x47", start + 1)
            if start < 0:
                break
    return False


def _has_pack(head: bytes) -> bool:
    """Whether a pack of an MPEG program stream (ISO/IEC 13818-1, 2.5.3.3, or 11172-1) with a packet behind its header begins in it: a
    recording may begin amid a pack."""
    start = head.find(_MAGIC["mpeg"])
    while start >= 0:
        pack = head[start : start + 14]
        num_bytes = 12 if pack[4:5] < b"@" else 14 + (pack[-1] & 7)
        packet = head[start + num_bytes :][:4]
        if packet[:3] == b"\0\0\1" and packet[3:] >= b"\xba":
            return True
        start = head.find(_MAGIC["mpeg"], start + 1)
    return False


def _path_of_uri(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise DecodeError("fetch_failed", f"{uri}: only local paths and file:// are read here")
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


def _segment_end(file: BinaryIO, num_bytes: int) -> int:
    """Where the Matroska segment says that it ends; 0 where it does not say (live streams)."""
    for _ in range(2):
        element_id = _read_vint(file, keep_marker=True)
        size = _read_vint(file, keep_marker=False)
        if element_id is None or size is None:
            return 0
        end = file.tell() + size
        if element_id == _SEGMENT_ID or end > num_bytes:
            return end
        file.seek(end)
    return 0


def _read_vint(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """An EBML variable-length integer; None at the end of the file or for the reserved value `unknown`."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    value &= (1 << (7 * length)) - 1
    return None if value == (1 << (7 * length)) - 1 else value
