"""Coverage-guided fuzzing of the readers of hostile input: an input that reaches new lines is kept, and mutated further.

python -m tests.support.faults.fuzz [--seconds 60] [--seed 0] [--only NAME]; status 1 and the input in hex where a reader raises
anything other than its own errors. Written for this, because a tracer of Python lines is enough for readers in pure Python.
"""

import argparse
import io
import pickle  # noqa: TID251 - to make inputs, not to read them
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType

from encoders.media import bitstream, timecode
from indexing.search import filters, types
from training.annotations.embeddings import pickle_reader

_MAX_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader, the modules whose lines count, and inputs to begin with. Errors of `allowed` are answers."""

    read: Callable[[bytes], object]
    modules: tuple[object, ...]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = (ValueError,)


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """What one target came to; `crash` is the input that did it, and the error."""

    num_inputs: int
    num_lines: int
    crash: tuple[bytes, str] | None


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
        modules=(bitstream,),
        seeds=(_box(b"ftyp", b"isom") + _box(b"moov") + _FRAGMENT + _box(b"mdat", bytes(9)), _AVI),
    ),
    "pickle": Target(
        read=_read_pickle,
        modules=(pickle_reader,),
        seeds=tuple(pickle.dumps(_PLAIN, protocol) for protocol in range(6)),
    ),
    "filters": Target(
        read=lambda data: filters.parse_filter(data.decode(errors="replace")),
        modules=(filters,),
        seeds=(b'label=["A", "B"]', b"start_s=1..2.5", b"duration_s=3..", b"twists=2.5", b"split=test"),
    ),
    "spans": Target(
        read=_read_span,
        modules=(types, timecode),
        seeds=(b"a.mp4@1-2.5", b"b@0:01-00:00:02,5", b"00:01:00;02", b"c.mkv@00:00:01:12-", b"1:02:03.5"),
    ),
}  # fmt: skip


def fuzz(name: str, *, seconds: float, seed: int = 0) -> Fuzzed:
    """Ends early with the first crash."""
    target, draw = TARGETS[name], random.Random(seed)
    files = {str(getattr(module, "__file__", "")) for module in target.modules}
    corpus, lines = list(target.seeds), set[tuple[CodeType, int]]()
    num_inputs, give_up = 0, time.monotonic() + seconds
    while time.monotonic() < give_up or num_inputs < len(target.seeds):
        is_seed = num_inputs < len(target.seeds)
        data = target.seeds[num_inputs] if is_seed else _mutate(draw, corpus)
        num_inputs += 1
        reached = set[tuple[CodeType, int]]()
        try:
            _traced(target.read, data, files, reached)
        except target.allowed:
            pass
        except Exception as error:  # noqa: BLE001 - what the fuzzer looks for
            crash = data, f"{type(error).__name__}: {error}"
            return Fuzzed(num_inputs=num_inputs, num_lines=len(lines), crash=crash)
        if reached - lines:
            lines |= reached
            corpus.append(data)
    return Fuzzed(num_inputs=num_inputs, num_lines=len(lines), crash=None)


def _traced(
    read: Callable[[bytes], object],
    data: bytes,
    files: set[str],
    reached: set[tuple[CodeType, int]],
) -> None:
    def trace(frame: FrameType, event: str, _argument: object):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            reached.add((frame.f_code, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read(data)
    finally:
        sys.settrace(before)


def _mutate(draw: random.Random, corpus: list[bytes]) -> bytes:
    # The newest half of the time: what reached a new line last leads on best.
    data = bytearray(draw.choice(corpus[-8:] if draw.random() < 0.5 else corpus))
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:at] = draw.choice((b"\0", b"\xff", b"\xff" * 4, bytes(4), b"-", b"..", b":", b'"', b"9" * 20, b"="))  # fmt: skip
        elif kind == 2:
            del data[at : at + draw.choice((1, 2, 8))]
        elif kind == 3 and at < len(data):
            data[at] = draw.randrange(256)
        else:
            other = draw.choice(corpus)
            start = draw.randrange(len(other) + 1)
            data[at:at] = other[start : start + draw.choice((1, 8, 64))]
    return bytes(data[:_MAX_BYTES])


def main() -> int:
    """0 where nothing crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS)
    arguments = parser.parse_args()
    is_clean = True
    for name in [arguments.only] if arguments.only else TARGETS:
        found = fuzz(name, seconds=arguments.seconds, seed=arguments.seed)
        told = "no crash" if found.crash is None else f"{found.crash[1]} by {found.crash[0].hex()}"
        sys.stdout.write(f"{name}: {found.num_inputs} inputs, {found.num_lines} lines, {told}\n")
        is_clean = is_clean and found.crash is None
    return 0 if is_clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
