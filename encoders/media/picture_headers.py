"""What the first bytes of each packet say about its picture: whether it is shown, its place in the display order, and whether
decoding may start there.

Containers do not always tell: packets of VP8, VP9 and AV1 may show nothing, keyframes of H.264 may be none, and times that were
made up by a muxer may contradict the order in which the decoder shows its pictures.
"""

from collections.abc import Callable

from encoders.media.nal_headers import EPOCH, H264Headers, HevcHeaders, Picture

# Of an MPEG-4 picture that is not coded, as FFmpeg's filter for packed bitstreams has it.
_MAX_EMPTY_BYTES = 19
ReadPicture = Callable[[memoryview], Picture]


class _Mpeg:
    """MPEG-1, -2 and -4: a B picture is shown at once, every other one when the next such one is decoded."""

    def __init__(self, start_code: bytes, kind_bits: tuple[int, int], b_kind: int) -> None:
        self._start_code, self._b_kind = start_code, b_kind
        self._byte, self._shift = kind_bits
        self._is_mpeg4 = start_code[3] == 0xB6
        self._mask = 3 if self._is_mpeg4 else 7
        self._num_references = self._count = 0

    def read(self, data: memoryview) -> Picture:
        content = bytes(data)
        at = content.find(self._start_code)
        if at < 0 or len(content) <= at + 4 + self._byte:
            return Picture()
        if self._is_mpeg4 and content.find(self._start_code, at + 4) >= 0:
            # Two pictures (AVI's packed bitstream): no order of packets is that of the pictures, so the decoder is to be asked.
            return Picture(order=0)
        # A packet that only says "as before", or keeps the place of a picture that came with another one, is no place to start.
        is_clean = not self._is_mpeg4 or len(content) > _MAX_EMPTY_BYTES
        self._count += 1
        if content[at + 4 + self._byte] >> self._shift & self._mask == self._b_kind:
            return Picture(self._num_references * EPOCH + self._count)
        self._num_references += 1
        return Picture(self._num_references * EPOCH + EPOCH // 2, is_clean_start=is_clean)


class _InOrder:
    """Codecs without reordering; `is_shown` reads whether a packet shows its picture."""

    def __init__(self, is_shown: Callable[[memoryview], bool] | None = None) -> None:
        self._is_shown, self._count = is_shown, 0

    def read(self, data: memoryview) -> Picture:
        if self._is_shown is not None and not self._is_shown(data):
            return Picture(is_shown=False)
        self._count += 1
        return Picture(order=self._count)


def is_shown_vp8(data: memoryview) -> bool:
    """VP8 stores its hidden reference frames as packets of their own; bit 4 of the first byte is show_frame (RFC 6386, 9.1)."""
    return bool(data[0] & 0x10)


def is_shown_vp9(data: memoryview) -> bool:
    """Whether a frame, or any of a superframe, is shown (VP9 bitstream, 6.2 and annex B)."""
    last = data[-1]
    sizes = [len(data)]
    if last & 0xE0 == 0xC0:
        size_bytes, count = (last >> 3 & 3) + 1, (last & 7) + 1
        index = data[-(2 + size_bytes * count) :]
        if len(data) > len(index) > 1 and index[0] == last:
            sizes = [
                int.from_bytes(index[1 + i * size_bytes : 1 + (i + 1) * size_bytes], "little")
                for i in range(count)
            ]
    at = 0
    for size in sizes:
        if size and at < len(data) and _shows_vp9(data[at]):
            return True
        at += size
    return False


def _shows_vp9(first: int) -> bool:
    """By the first byte: 2 bits of marker, 2 of profile (and a reserved one), show_existing_frame, frame_type, show_frame."""
    shift = 2 if first >> 4 & 3 == 3 else 3
    return bool(first >> shift & 1 or first >> (shift - 2) & 1)


def is_shown_av1(data: memoryview) -> bool:
    """Whether any frame header of a temporal unit shows a frame (AV1 bitstream, 5.3 and 5.9.2)."""
    at, has_header = 0, False
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        if header >> 3 & 15 in (3, 6) and at < len(data):
            has_header = True
            # show_existing_frame, then frame_type (2 bits), then show_frame
            if data[at] & 0x80 or data[at] & 0x10:
                return True
        at += size
    return not has_header


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        if at >= len(data):
            break
        value |= (data[at] & 127) << (7 * i)
        at += 1
        if not data[at - 1] & 128:
            break
    return value, at


_NO_REORDERING = frozenset(
    {"mjpeg", "prores", "dnxhd", "h263", "h263p", "flv1", "ffv1", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3",
     "wmv1", "wmv2", "png", "qtrle", "dvvideo", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "vp6", "vp6f"}
)  # fmt: skip
_HIDING = {"vp8": is_shown_vp8, "vp9": is_shown_vp9, "av1": is_shown_av1}


def picture_reader(codec: str, extradata: bytes | None) -> ReadPicture:
    """Reads the packets of one stream, in decoding order; `codec` is FFmpeg's name of the codec."""
    if codec == "h264":
        return H264Headers(extradata or b"").read
    if codec == "hevc":
        return HevcHeaders(extradata or b"").read
    if codec in ("mpeg1video", "mpeg2video"):
        return _Mpeg(b"\0\0\1\0", (1, 3), 3).read
    if codec == "mpeg4":
        return _Mpeg(b"\0\0\1\xb6", (0, 6), 2).read
    if codec in _NO_REORDERING or codec in _HIDING:
        return _InOrder(_HIDING.get(codec)).read
    return lambda _data: Picture()
