"""Pictures of H.264 and HEVC by the headers of their NAL units: display order, recovery points, second fields, pictures not shown."""

from collections.abc import Iterator
from typing import NamedTuple

EPOCH = 1 << 40
"""Between the orders of two coded video sequences; picture order counts begin anew with each."""
# Of a slice: its header's first fields end before.
_SLICE_BYTES = 64


class Picture(NamedTuple):
    """The picture of one packet."""

    order: int | None = None
    """Pictures are shown in ascending order; None = not told, the container's times hold."""
    is_shown: bool = True
    is_clean_start: bool = True
    """Whether decoding may start here where the container calls it a keyframe."""


class BitReader:
    """Reads a header bit by bit; ValueError at its end. Without the bytes that H.264 and HEVC put in against false start codes."""

    def __init__(self, data: bytes, *, has_escapes: bool = True) -> None:
        if has_escapes:
            data = data.replace(b"\0\0\3", b"\0\0")
        self._value, self._num_left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._num_left -= count
        if self._num_left < 0:
            raise ValueError("a header that ends too early")
        return (self._value >> self._num_left) & ((1 << count) - 1)

    def skip(self, *counts: int) -> None:
        """Passes over so many bits each; 0 = a number of any length."""
        for count in counts:
            if count:
                self.take(count)
            else:
                self.exp_golomb()

    def exp_golomb(self) -> int:
        rest = self._value & ((1 << self._num_left) - 1)
        num_zeros = self._num_left - rest.bit_length()
        if num_zeros > 32:
            raise ValueError("a number of more than 32 bits")
        self._num_left -= num_zeros
        return self.take(num_zeros + 1) - 1


def _units(data: memoryview, length_size: int) -> Iterator[bytes]:
    """The first bytes of the NAL units of a packet, by their lengths, or by start codes (length_size 0)."""
    if length_size:
        at, end = 0, len(data)
        while at + length_size < end:
            size = int.from_bytes(data[at : at + length_size], "big")
            at += length_size
            if size:
                yield bytes(data[at : at + min(size, 1024)])
            at += size
        return
    content = bytes(data)
    at = content.find(b"\0\0\1")
    while at >= 0:
        following = content.find(b"\0\0\1", at + 3)
        yield content[at + 3 : min(at + 1027, following if following >= 0 else len(content))]
        at = following


def unit_length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each NAL unit of a packet, as the header of an MP4 or Matroska file says; 0 = start codes, or another codec."""
    place = {"h264": 4, "hevc": 21}.get(codec)
    if place is None or extradata[:1] != b"\1" or len(extradata) <= place:
        return 0
    return (extradata[place] & 3) + 1


def is_damaged(data: memoryview, length_size: int) -> bool:
    """Whether a packet cannot be what an encoder wrote: lengths that do not add up, or bytes that no NAL unit holds.

    (ITU-T H.264 and H.265, 7.3.1: the first bit is 0, and three zeros in a row are broken by a 3.) So blocks of zeros and bytes that
    were lost or put in are noticed; a flipped bit amid a slice is not, for that only decoding tells.
    """
    content = bytes(data)
    at, end = 0, len(content)
    while at < end:
        size = int.from_bytes(content[at : at + length_size], "big")
        at += length_size
        if not 0 < size <= end - at or content[at] & 0x80:
            return True
        if content.find(b"\0\0\0", at, at + size) >= 0:
            return True
        at += size
    return False


class H264Headers:
    """ITU-T H.264, 7.3.3 (slice header) and 8.2.1 (picture order count)."""

    def __init__(self, extradata: bytes) -> None:
        self._length_size = unit_length_size("h264", extradata)
        self._sps = b""
        self._layout: tuple[int, int, bool, bool, int] | None = None
        self._epoch = self._previous_msb = self._previous_lsb = self._count = 0
        self._first_field: tuple[int, int] | None = None
        if extradata[:1] == b"\1" and len(extradata) > 4:
            size = int.from_bytes(extradata[6:8], "big")
            self._read_sps(extradata[8 : 8 + size])
        else:
            for unit in _units(memoryview(extradata), 0):
                if unit[0] & 31 == 7:
                    self._read_sps(unit)

    def read(self, data: memoryview) -> Picture:
        is_clean = True
        for unit in _units(data, self._length_size):
            kind = unit[0] & 31
            if kind == 7:
                self._read_sps(unit)
            elif kind == 6:
                is_clean = is_clean and not _recovers_late(memoryview(unit)[1:])
            elif kind in (1, 2, 5):
                return self._of_slice(unit, is_clean)
        return Picture(is_clean_start=is_clean)

    def _of_slice(self, unit: bytes, is_clean: bool) -> Picture:
        self._count += 1
        if self._layout is None:
            return Picture(is_clean_start=is_clean)
        frame_num_bits, lsb_bits, only_frames, has_planes, poc_type = self._layout
        is_idr = unit[0] & 31 == 5
        bits = BitReader(unit[1:_SLICE_BYTES])
        try:
            bits.skip(0, 0, 0)
            bits.take(2 if has_planes else 0)
            frame_num = bits.take(frame_num_bits)
            is_field = not only_frames and bits.take(1)
            parity = bits.take(1) if is_field else 0
            if self._is_second_field(is_field, frame_num, parity, is_idr):
                return Picture(is_shown=False, is_clean_start=False)
            if is_idr:
                bits.exp_golomb()
                self._epoch += 1
                self._previous_msb = self._previous_lsb = 0
            if (
                poc_type
            ):  # type 2: no reordering; type 1 needs more of the headers than is read here
                order = self._epoch * EPOCH + self._count if poc_type == 2 else None
                return Picture(order=order, is_clean_start=is_clean)
            msb, lsb = _poc(bits.take(lsb_bits), lsb_bits, self._previous_msb, self._previous_lsb)
        except ValueError:
            return Picture(is_clean_start=is_clean)
        if unit[0] & 0x60:
            self._previous_msb, self._previous_lsb = msb, lsb
        return Picture(order=self._epoch * EPOCH + msb + lsb, is_clean_start=is_clean)

    def _is_second_field(self, is_field: int, frame_num: int, parity: int, is_idr: bool) -> bool:
        """Whether a packet completes the frame whose first field was the packet before."""
        first, self._first_field = self._first_field, None
        if not is_field:
            return False
        if first == (frame_num, 1 - parity) and not is_idr:
            return True
        self._first_field = frame_num, parity
        return False

    def _read_sps(self, unit: bytes) -> None:
        if unit == self._sps:
            return
        self._sps = unit
        bits = BitReader(unit[1:])
        try:
            profile = bits.take(8)
            bits.take(16)
            bits.exp_golomb()
            has_planes = False
            if profile in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
                has_planes = _skip_chroma_format(bits)
            frame_num_bits = bits.exp_golomb() + 4
            poc_type = bits.exp_golomb()
            lsb_bits = bits.exp_golomb() + 4 if poc_type == 0 else 0
            if poc_type == 1:
                bits.skip(1, 0, 0)
                for _ in range(min(bits.exp_golomb(), 255)):
                    bits.exp_golomb()
            bits.skip(0, 1, 0, 0)
            only_frames = bool(bits.take(1))
        except ValueError:
            self._layout = None
            return
        self._layout = frame_num_bits, lsb_bits, only_frames, has_planes, poc_type


def _skip_chroma_format(bits: BitReader) -> bool:
    """Whether the colour planes are coded apart; reads on to the end of the scaling matrices (H.264, 7.3.2.1.1)."""
    chroma = bits.exp_golomb()
    has_planes = bool(chroma == 3 and bits.take(1))
    bits.skip(0, 0, 1)
    if bits.take(1):
        for i in range(8 if chroma != 3 else 12):
            if bits.take(1):
                last = following = 8
                for _ in range(16 if i < 6 else 64):
                    if following:
                        code = bits.exp_golomb()
                        delta = (code + 1) // 2 if code % 2 else -code // 2
                        following = (last + delta) % 256
                    last = following or last
    return has_planes


def _poc(lsb: int, lsb_bits: int, previous_msb: int, previous_lsb: int) -> tuple[int, int]:
    """(most, least) significant part of a picture order count (H.264, 8.2.1.1; H.265, 8.3.1)."""
    limit = 1 << lsb_bits
    if lsb < previous_lsb and previous_lsb - lsb >= limit // 2:
        return previous_msb + limit, lsb
    if lsb > previous_lsb and lsb - previous_lsb > limit // 2:
        return previous_msb - limit, lsb
    return previous_msb, lsb


def _recovers_late(messages: memoryview) -> bool:
    """Whether a recovery point says that its picture is not yet whole (recovery_frame_cnt > 0; ITU-T H.264, D.1.8)."""
    at = 0
    while at + 2 < len(messages):
        kind, at = _sei_number(messages, at)
        size, at = _sei_number(messages, at)
        if kind == 6 and at < len(messages):
            return not messages[at] & 0x80  # an Exp-Golomb 0 is the single bit 1
        at += size
    return False


def _sei_number(messages: memoryview, at: int) -> tuple[int, int]:
    """A number coded as bytes of 255 and a last one, and where the next field starts."""
    value = 0
    while at < len(messages) and messages[at] == 255:
        value, at = value + 255, at + 1
    return value + (messages[at] if at < len(messages) else 0), at + 1


class HevcHeaders:
    """ITU-T H.265, 7.3.6.1 (slice segment header) and 8.3.1 (picture order count)."""

    def __init__(self, extradata: bytes) -> None:
        self._length_size = unit_length_size("hevc", extradata)
        self._sps: dict[bytes, tuple[int, bool]] = {}
        self._pps: dict[int, tuple[bool, int]] = {}
        self._layout: tuple[int, bool] | None = None
        self._epoch = self._previous_msb = self._previous_lsb = 0
        self._skips_leading, self._is_first = False, True
        if extradata[:1] == b"\1" and len(extradata) > 23:
            at = 23
            for _ in range(extradata[22]):
                for _ in range(int.from_bytes(extradata[at + 1 : at + 3], "big")):
                    size = int.from_bytes(extradata[at + 3 : at + 5], "big")
                    self._read_parameters(extradata[at + 5 : at + 5 + size])
                    at += 2 + size
                at += 3
        else:
            for unit in _units(memoryview(extradata), 0):
                self._read_parameters(unit)

    def read(self, data: memoryview) -> Picture:
        for unit in _units(data, self._length_size):
            kind = unit[0] >> 1 & 63
            if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:
                continue  # layers above the base: decoders give the base layer
            if kind in (33, 34):
                self._read_parameters(unit)
            elif kind in (36, 37):  # end of sequence or bitstream
                self._is_first = True
            elif kind < 32 and unit[2] & 0x80:
                return self._of_slice(unit, kind)
        return Picture()

    def _of_slice(self, unit: bytes, kind: int) -> Picture:
        is_start = 16 <= kind <= 23
        if is_start:
            self._skips_leading = kind <= 20 or self._is_first
            self._is_first = False
        try:
            lsb, lsb_bits, is_shown = self._read_slice(
                BitReader(unit[2:_SLICE_BYTES]), kind, is_start
            )
        except (ValueError, KeyError):
            return Picture()
        if (
            is_start and self._skips_leading
        ):  # its leading pictures are not decoded: the count begins anew
            self._epoch += 1
            msb = 0
        else:
            msb, lsb = _poc(lsb, lsb_bits, self._previous_msb, self._previous_lsb)
        if unit[1] & 7 == 1 and not (6 <= kind <= 9 or (kind <= 14 and kind % 2 == 0)):
            self._previous_msb, self._previous_lsb = msb, lsb
        if kind in (8, 9) and self._skips_leading:
            is_shown = False
        return Picture(order=self._epoch * EPOCH + msb + lsb, is_shown=is_shown)

    def _read_slice(self, bits: BitReader, kind: int, is_start: bool) -> tuple[int, int, bool]:
        """(least significant part of the count, its bits, is shown)."""
        if self._layout is None:
            raise ValueError("no sequence parameters yet")
        lsb_bits, has_planes = self._layout
        bits.take(2 if is_start else 1)
        has_output_flag, num_extra = self._pps[bits.exp_golomb()]
        bits.take(num_extra)
        bits.exp_golomb()
        is_shown = bool(not has_output_flag or bits.take(1))
        bits.take(2 if has_planes else 0)
        return (0 if kind in (19, 20) else bits.take(lsb_bits)), lsb_bits, is_shown

    def _read_parameters(self, unit: bytes) -> None:
        kind = unit[0] >> 1 & 63 if len(unit) > 2 else 0
        try:
            if kind == 33:
                self._layout = self._sps.get(unit) or self._sps.setdefault(unit, _hevc_sps(unit))
            elif kind == 34:
                bits = BitReader(unit[2:32])
                number = bits.exp_golomb()
                bits.skip(0, 1)
                self._pps[number] = bool(bits.take(1)), bits.take(3)
        except ValueError:
            return


def _hevc_sps(unit: bytes) -> tuple[int, bool]:
    """(bits of the picture order count, whether colour planes are coded apart); H.265, 7.3.2.2."""
    bits = BitReader(unit[2:])
    bits.take(4)
    num_layers = bits.take(3)
    bits.take(1 + 96)
    flags = [(bits.take(1), bits.take(1)) for _ in range(num_layers)]
    bits.take(2 * (8 - num_layers) if num_layers else 0)
    for has_profile, has_level in flags:
        bits.take(88 * has_profile + 8 * has_level)
    bits.exp_golomb()
    has_planes = bool(bits.exp_golomb() == 3 and bits.take(1))
    bits.skip(0, 0)
    if bits.take(1):
        for _ in range(4):
            bits.exp_golomb()
    bits.skip(0, 0)
    return bits.exp_golomb() + 4, has_planes
