"""What the first bytes of each packet say about its picture: whether it is shown, its place in the display order, and whether
decoding may start there.

Containers do not always tell: packets of VP8, VP9 and AV1 may show nothing, keyframes of H.264 may be none, and times that were
made up by a muxer may contradict the order in which the decoder shows its pictures.
"""

import re
from collections.abc import Callable

from encoders.media.nal_headers import EPOCH, BitReader, H264Headers, HevcHeaders, Picture

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
        bits = BitReader(content[at:], has_escapes=False)
        try:
            bits.skip(2)
            while bits.take(1):
                pass
            bits.skip(1, self._clock_bits, 1)
            return bool(bits.take(1))
        except ValueError:  # cut off
            return False


def _clock_bits(header: bytes) -> int:
    """Bits of a picture's time by the header of its video object layer (ISO/IEC 14496-2, 6.2.3); 0 = it is not there."""
    found = _LAYER_HEADER.search(header)
    if found is None:
        return 0
    bits = BitReader(header[found.end() : found.end() + _LAYER_BYTES], has_escapes=False)
    try:
        bits.skip(9)
        if bits.take(1):  # is_object_layer_identifier
            bits.skip(7)
        if bits.take(4) == 15:  # aspect_ratio_info
            bits.skip(16)
        if bits.take(1):  # vol_control_parameters
            bits.skip(3)
            if bits.take(1):
                bits.skip(79)
        bits.skip(3)
        return max(1, (bits.take(16) - 1).bit_length())
    except ValueError:  # cut off
        return 0


def _is_intra_h263(bits: BitReader) -> bool:
    """H.263, 5.1.3 and 5.1.4: the kind stands in PTYPE, or in the last part of PLUSPTYPE."""
    bits.skip(35)
    if bits.take(3) != 7:
        return not bits.take(1)
    if bits.take(3):
        bits.skip(18)
    return bits.take(3) == 0


def _is_intra_flv1(bits: BitReader) -> bool:
    """Sorenson's H.263: start code, version, number, size and kind."""
    bits.skip(30)
    bits.take({0: 16, 1: 32}.get(bits.take(3), 0))
    return bits.take(2) == 0


def _is_intra_msmpeg4(bits: BitReader) -> bool:
    return bits.take(2) == 0


def _is_intra_msmpeg4v1(bits: BitReader) -> bool:
    bits.skip(37)  # start code and number
    return _is_intra_msmpeg4(bits)


def _is_first_bit_0(bits: BitReader) -> bool:
    return not bits.take(1)


# Whether a picture refers to no other one, of codecs whose containers may call every packet a keyframe.
_IS_INTRA: dict[str, Callable[[BitReader], bool]] = {
    "h263": _is_intra_h263,
    "h263p": _is_intra_h263,
    "flv1": _is_intra_flv1,
    "msmpeg4v1": _is_intra_msmpeg4v1,
    "msmpeg4v2": _is_intra_msmpeg4,
    "msmpeg4v3": _is_intra_msmpeg4,
    "wmv1": _is_intra_msmpeg4,
    "wmv2": _is_first_bit_0,
    "vp6": _is_first_bit_0,
    "vp6f": _is_first_bit_0,
}
_HEADER_BYTES, _LAYER_BYTES = 16, 64


class _InOrder:
    """Codecs without reordering; `is_shown` and `is_intra` read whether a packet shows its picture, and whether that stands alone."""

    def __init__(
        self,
        is_shown: Callable[[memoryview], bool] | None = None,
        is_intra: Callable[[BitReader], bool] | None = None,
    ) -> None:
        self._is_shown, self._is_intra, self._count = is_shown, is_intra, 0

    def read(self, data: memoryview) -> Picture:
        if self._is_shown is not None and not self._is_shown(data):
            return Picture(is_shown=False)
        self._count += 1
        return Picture(order=self._count, is_clean_start=self._is_clean(data))

    def _is_clean(self, data: memoryview) -> bool:
        if self._is_intra is None:
            return True
        try:
            return self._is_intra(BitReader(bytes(data[:_HEADER_BYTES]), has_escapes=False))
        except ValueError:  # cut off: the container's word holds
            return True


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
