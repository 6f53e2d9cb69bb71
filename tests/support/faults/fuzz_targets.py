"""The readers of hostile input that are fuzzed, each with inputs to begin with."""

import io
import pickle  # noqa: TID251 - to make inputs, not to read them
from collections.abc import Callable
from dataclasses import dataclass

from encoders.media import bitstream, timecode
from indexing.search import filters, types
from training.annotations.embeddings import pickle_reader


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader and inputs to begin with. Errors of `allowed` are answers."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = (ValueError,)


def _box(kind: bytes, data: bytes = b"") -> bytes:
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def _read_boxes(data: bytes) -> None:
    bitstream.boxes_end(io.BytesIO(data), len(data))
    bitstream.has_fragments(io.BytesIO(data))
    bitstream.ends_amid_frames(io.BytesIO(data), len(data))


def _read_pickle(data: bytes) -> None:
    builders = {("numpy", "dtype"): lambda *arguments: arguments}
    reader = pickle_reader.PickleReader(data, source="fuzz", builders=builders)
    while not reader.at_end:
        reader.load()


def _read_span(data: bytes) -> None:
    text = data.decode(errors="replace")
    types.parse_file(text)
    for rate in timecode._LABELS_DROPPED_PER_MINUTE:
        try:
            timecode.frame_of(text, rate)
        except ValueError:
            timecode.parse_seconds(text)


_RUN = _box(b"trun", bytes([0, 0, 2, 1, 0, 0, 0, 1, 0, 0, 0, 99, 0, 0, 0, 7]))
_FRAGMENT = _box(b"moof", _box(b"traf", _box(b"tfhd", bytes([0, 2, 0, 0, 0, 0, 0, 1])) + _RUN))
_AVI = b"RIFF\xff\0\0\0AVI LIST\x30\0\0\0movi00dc\4\0\0\0abcd00dc\3\0\0\0abc\0idx1\0\0\0\0"
_PLAIN = {"id": [1, 2.5, -(1 << 70), "a\u00e9", b"x", None, True, ("t", {"k": ()})]}
TARGETS = {
    "mp4": Target(
        read=_read_boxes,
        seeds=(_box(b"ftyp", b"isom") + _box(b"moov") + _FRAGMENT + _box(b"mdat", bytes(9)), _AVI),
    ),
    "pickle": Target(
        read=_read_pickle,
        seeds=tuple(pickle.dumps(_PLAIN, protocol) for protocol in range(6)),
    ),
    "filters": Target(
        read=lambda data: filters.parse_filter(data.decode(errors="replace")),
        seeds=(b'label=["A", "B"]', b"start_s=1..2.5", b"duration_s=3..", b"twists=2.5", b"split=test"),
    ),
    "spans": Target(
        read=_read_span,
        seeds=(b"a.mp4@1-2.5", b"b@0:01-00:00:02,5", b"00:01:00;02", b"c.mkv@00:00:01:12-", b"1:02:03.5"),
    ),
}  # fmt: skip
