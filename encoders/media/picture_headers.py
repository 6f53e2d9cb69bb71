"""What the first bytes of each packet say about its picture: whether it is shown, its place in the display order, and whether
decoding may start there.

Containers do not always tell: packets of VP8, VP9 and AV1 may show nothing, keyframes of H.264 may be none, and times that were
made up by a muxer may contradict the order in which the decoder shows its pictures.
"""

import re
from collections.abc import Callable

from encoders.media.nal_headers import EPOCH, H264Headers, HevcHeaders, Picture

# Of an MPEG-4 picture that is not coded, as FFmpeg's filter for packed bitstreams has it.
_MAX_EMPTY_BYTES = 19
_LAYER_HEADER = re.compile(rb"\x00\x00\x01[\x20-\x2f]")
ReadPicture = Callable[[memoryview], Picture]


class _Mpeg:
    """MPEG-1, -2 and -4: a B picture is shown at once, every other one when the next such one is decoded."""

    def __init__(
        self, start_code: bytes, kind_bits: tuple[int, int], kinds: tuple[int, int]
    ) -> None:
        """Where the kind of a picture stands behind its start code: byte and shift; the kinds I and B."""
        self._start_code, (self._intra_kind, self._b_kind) = start_code, kinds
        self._byte, self._shift = kind_bits
        self._mask = 3 if start_code == _MPEG4_PICTURE else 7
        self._num_references = self._count = 0

    def read(self, data: memoryview) -> Picture:
        content = bytes(data)
        at = content.find(self._start_code)
        if at < 0 or len(content) <= at + 4 + self._byte:
            return Picture()
        return self._picture(content, at + 4)

    def _picture(self, content: bytes, at: int) -> Picture:
        kind = content[at + self._byte] >> self._shift & self._mask
        self._count += 1
        if kind == self._b_kind:
            return Picture(self._num_references * EPOCH + self._count, is_clean_start=False)
        self._num_references += 1
        order = self._num_references * EPOCH + EPOCH // 2
        return Picture(order, is_clean_start=kind == self._intra_kind)


_MPEG4_PICTURE = b"\0\0\1\xb6"


class _Mpeg4(_Mpeg):
    """MPEG-4 part 2, with AVI's packed bitstream and pictures that are not coded."""

    def __init__(self, extradata: bytes) -> None:
        super().__init__(_MPEG4_PICTURE, (0, 6), (0, 2))
        self._clock_bits = _clock_bits(extradata)

    def _picture(self, content: bytes, at: int) -> Picture:
        self._clock_bits = _clock_bits(content[: at - 4]) or self._clock_bits
        if content.find(self._start_code, at) >= 0:
            # Two pictures in one packet: no order of packets is that of the pictures, so the decoder is to be asked.
            return Picture(order=0)
        if not self._is_coded(content, at):
            # It says "as before", or keeps the place of a picture that came with another one: the decoder gives nothing for it.
            return Picture(is_shown=False, is_clean_start=False)
        return super()._picture(content, at)

    def _is_coded(self, content: bytes, at: int) -> bool:
        """vop_coded (ISO/IEC 14496-2, 6.2.5), which stands behind the kind, the seconds in unary and the ticks of the clock."""
        if len(content) > _MAX_EMPTY_BYTES or not self._clock_bits:
            return True
        place = 2
        while _bits(content, at, place, 1):
            place += 1
        return bool(_bits(content, at, place + 2 + self._clock_bits + 1, 1))


def _clock_bits(header: bytes) -> int:
    """Bits of a picture's time by the header of its video object layer (ISO/IEC 14496-2, 6.2.3); 0 = it is not there."""
    found = _LAYER_HEADER.search(header)
    if found is None:
        return 0
    at, place = found.end(), 9
    place += 8 if _bits(header, at, place, 1) else 1  # is_object_layer_identifier
    place += 20 if _bits(header, at, place, 4) == 15 else 4  # aspect_ratio_info
    if _bits(header, at, place, 1):  # vol_control_parameters
        place += 4
        place += 79 if _bits(header, at, place, 1) else 0
    place += 1
    return max(1, (_bits(header, at, place + 3, 16) - 1).bit_length())


def _bits(content: bytes, at: int, place: int, count: int) -> int:
    """Bits from a place on, of the bytes from `at` on; what lies behind the end is 0."""
    first, last = at + place // 8, at + (place + count + 7) // 8
    data = content[first:last].ljust(last - first, b"\0")
    return int.from_bytes(data, "big") >> (8 * len(data) - place % 8 - count) & ((1 << count) - 1)


def _is_intra_h263(data: bytes) -> bool:
    """H.263, 5.1.3 and 5.1.4: the kind stands in PTYPE, or in the last part of PLUSPTYPE."""
    if _bits(data, 0, 35, 3) != 7:
        return not _bits(data, 0, 38, 1)
    return _bits(data, 0, 59 if _bits(data, 0, 38, 3) else 41, 3) == 0


def _is_intra_flv1(data: bytes) -> bool:
    """Sorenson's H.263: start code, version, number, size and kind."""
    size = _bits(data, 0, 30, 3)
    return _bits(data, 0, {0: 49, 1: 65}.get(size, 33), 2) == 0


def _is_intra_msmpeg4(data: bytes) -> bool:
    return _bits(data, 0, 0, 2) == 0


# Whether a picture refers to no other one, of codecs whose containers may call every packet a keyframe.
_IS_INTRA: dict[str, Callable[[bytes], bool]] = {
    "h263": _is_intra_h263,
    "h263p": _is_intra_h263,
    "flv1": _is_intra_flv1,
    "msmpeg4v1": lambda data: _bits(data, 0, 37, 2) == 0,  # behind a start code and a number
    "msmpeg4v2": _is_intra_msmpeg4,
    "msmpeg4v3": _is_intra_msmpeg4,
    "wmv1": _is_intra_msmpeg4,
    "wmv2": lambda data: _bits(data, 0, 0, 1) == 0,
    "vp6": lambda data: _bits(data, 0, 0, 1) == 0,
    "vp6f": lambda data: _bits(data, 0, 0, 1) == 0,
}
_HEADER_BYTES = 16


class _InOrder:
    """Codecs without reordering; `is_shown` and `is_intra` read whether a packet shows its picture, and whether that stands alone."""

    def __init__(
        self,
        is_shown: Callable[[memoryview], bool] | None = None,
        is_intra: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._is_shown, self._is_intra, self._count = is_shown, is_intra, 0

    def read(self, data: memoryview) -> Picture:
        if self._is_shown is not None and not self._is_shown(data):
            return Picture(is_shown=False)
        self._count += 1
        is_intra = self._is_intra is None or self._is_intra(bytes(data[:_HEADER_BYTES]))
        return Picture(order=self._count, is_clean_start=is_intra)


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
        return _Mpeg(b"\0\0\1\0", (1, 3), (1, 3)).read
    if codec == "mpeg4":
        return _Mpeg4(extradata or b"").read
    if codec in _NO_REORDERING or codec in _HIDING:
        return _InOrder(_HIDING.get(codec), _IS_INTRA.get(codec)).read
    return lambda _data: Picture()
