"""What a packet's own bytes say about it where the container's word is not enough."""

_H264_SEI, _H264_IDR = 6, 5
_SEI_RECOVERY_POINT = 6


def is_clean_start(data: memoryview, codec: str, extradata: bytes | None) -> bool:
    """Whether decoding may start at a packet that the container calls a keyframe.

    H.264 with periodic intra refresh has none: its recovery points say after how many more frames the picture is whole.
    Decoders do not always hold back the broken pictures in between.
    """
    if codec != "h264" or extradata is None or len(extradata) < 5 or extradata[0] != 1:
        return True  # extradata of another kind: Annex B, which MP4 and Matroska do not carry
    length_size = (extradata[4] & 3) + 1
    at = 0
    while at + length_size < len(data):
        size = int.from_bytes(data[at : at + length_size], "big")
        unit = data[at + length_size : at + length_size + size]
        if not unit or unit[0] & 31 == _H264_IDR:
            return True
        if unit[0] & 31 == _H264_SEI and _recovers_late(unit[1:]):
            return False
        at += length_size + size
    return True


def is_shown_vp8(data: memoryview) -> bool:
    """VP8 stores its hidden reference frames as packets of their own; bit 4 of the first byte is show_frame (RFC 6386, 9.1)."""
    return bool(data[0] & 0x10)


def _recovers_late(messages: memoryview) -> bool:
    """Whether a recovery point says that its picture is not yet whole (recovery_frame_cnt > 0; ITU-T H.264, D.1.8)."""
    at = 0
    while at + 2 < len(messages):
        kind, at = _sei_number(messages, at)
        size, at = _sei_number(messages, at)
        if kind == _SEI_RECOVERY_POINT and at < len(messages):
            return not messages[at] & 0x80  # an Exp-Golomb 0 is the single bit 1
        at += size
    return False


def _sei_number(messages: memoryview, at: int) -> tuple[int, int]:
    """A number coded as bytes of 255 and a last one, and where the next field starts."""
    value = 0
    while at < len(messages) and messages[at] == 255:
        value, at = value + 255, at + 1
    return value + (messages[at] if at < len(messages) else 0), at + 1
