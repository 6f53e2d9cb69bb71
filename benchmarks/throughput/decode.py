"""The decode plan beside the best other ways to the same frames: three archives, all ways in one run.

Every way makes the same frames at one size with one thread, by both of our ways to resize: the ratios are those of
"swscale_area", with `_pillow` behind their names those of "pillow_bicubic", the default.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.harness.record import summarize_samples
from benchmarks.throughput.decode_peers import Plan, available_peers, decode_planned_packets
from encoders.decoding.decode import iter_spans
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span, forget_index
from encoders.media.sampling import Resize, SamplingConfig, sample_positions

_FPS = 25
_NUM_FRAMES, _SIZE = 12, 224
_SPAN_FRAMES = 25
# What follows the names of the figures.
_WAYS_TO_RESIZE: dict[Resize, str] = {"swscale_area": "", "pillow_bicubic": "_pillow"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeArchive:
    """Videos with their spans, as (first frame, end frame)."""

    name: str
    videos: tuple[Path, ...]
    ranges: tuple[tuple[int, int], ...]
    """The same in every video."""

    def plan(self, resize: Resize) -> Plan:
        """Frame numbers of each clip, by the sampling of the encoder."""
        return Plan(
            numbers=[
                first + sample_positions(end - first, _NUM_FRAMES) for first, end in self.ranges
            ],
            size=_SIZE,
            resize=resize,
        )

    @property
    def num_clips(self) -> int:
        return len(self.videos) * len(self.ranges)


def measure_decode(
    *, num_rounds: int, scale: float, folder: Path, say: Callable[[str], None]
) -> dict[str, object]:
    """Clips/s of each way and archive, medians of interleaved rounds; `scale` shrinks the archives."""
    say("decode: making the archives")
    figures: dict[str, object] = {}
    for archive in _write_archives(folder, scale):
        for resize, behind in _WAYS_TO_RESIZE.items():
            say(f"decode: {archive.name}, {resize}")
            # The default way to resize is only compared with itself: fewer rounds do.
            rounds = num_rounds if not behind else min(num_rounds, 3)
            measured = _measure_archive(archive, rounds, resize)
            figures |= {f"{name}{behind}": value for name, value in measured.items()}
    return figures


def _measure_archive(archive: DecodeArchive, num_rounds: int, resize: Resize) -> dict[str, object]:
    ways = {"ours": _ours} | available_peers()
    if archive.name == "dense":
        ways["libav_planned"] = decode_planned_packets
    plan = archive.plan(resize)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    decoded: dict[str, int] = {}
    for number in range(num_rounds + 1):  # the first round warms up
        order = list(ways.items())
        for name, way in order[number % len(order) :] + order[: number % len(order)]:
            started = time.perf_counter()
            decoded[name] = sum(way(path, plan) for path in archive.videos)
            rates[name].append(archive.num_clips / (time.perf_counter() - started))
    samples = {
        name: summarize_samples(clips_per_s, warmup=1) for name, clips_per_s in rates.items()
    }
    peers = {name: sample.median for name, sample in samples.items() if name in available_peers()}
    best = max(peers, key=lambda name: peers[name])
    # The machine's own moods touch ways of the same round alike: ratios within rounds, then their median.
    figures: dict[str, object] = {
        f"decode_{archive.name}_clips_per_s": samples,
        f"decode_ratio_{archive.name}": _ratio(rates, best),
        f"decode_best_peer_{archive.name}": best,
        f"decode_{archive.name}_frames_decoded": decoded["ours"],
        f"decode_{archive.name}_frames_used": len(archive.videos) * len(plan.all_numbers),
    }
    if archive.name == "dense":
        figures["decode_dense_over_seek"] = _ratio(rates, "pyav_seek")
        figures["decode_dense_of_libav"] = _ratio(rates, "libav_planned")
    return figures


def _ratio(rates: dict[str, list[float]], other: str) -> float:
    return float(np.median(np.divide(rates["ours"][1:], rates[other][1:])))


def _ours(path: Path, plan: Plan) -> int:
    spans = tuple(
        # A tenth of a frame early: binary fractions must not move a bound across a frame.
        Span(start_s=max((n[0] - _offset()) / _FPS - 0.1 / _FPS, 0.0), end_s=_end_s(n))
        for n in plan.numbers
    )
    sampling = SamplingConfig(num_frames=_NUM_FRAMES, frame_size=plan.size, resize=plan.resize)
    num_decoded = 0
    forget_index()  # reading it is part of the work, as it is for the peers
    request = DecodeRequest(video=str(path), spans=spans, sampling=sampling)
    for span in iter_spans(request):
        wanted = plan.numbers[span.number]
        if span.frame_indices_T is None or span.frame_indices_T.tolist() != wanted.tolist():
            raise ValueError(
                f"{path}: clip {span.number} came with other frames than the peers decode"
            )
        num_decoded = max(num_decoded, span.num_frames_decoded)
    return num_decoded


def _offset() -> int:
    """Of the first sampled frame from its span's start."""
    return int(sample_positions(_SPAN_FRAMES, _NUM_FRAMES)[0])


def _end_s(numbers: np.ndarray) -> float:
    return (int(numbers[0]) - _offset() + _SPAN_FRAMES) / _FPS - 0.1 / _FPS


def _write_archives(folder: Path, scale: float) -> list[DecodeArchive]:
    num_short = max(int(60 * scale), 2)
    seconds = max(int(40 * scale), 4)
    short = tuple(folder / f"short-{number}.mp4" for number in range(num_short))
    for number, path in enumerate(short):
        write_video(path, moving_pictures(2 * _FPS, (240, 320), number), codec="h264")
    long = folder / "long.mp4"  # x264 sets a keyframe every 250 frames unless the picture is cut
    write_video(long, moving_pictures(seconds * _FPS, (720, 1280), 1), codec="h264")
    every_s = tuple((s * _FPS, s * _FPS + _SPAN_FRAMES) for s in range(seconds))
    return [
        DecodeArchive(name="short", videos=short, ranges=((0, _SPAN_FRAMES),)),
        DecodeArchive(name="dense", videos=(long,), ranges=every_s),
        DecodeArchive(name="sparse", videos=(long,), ranges=every_s[2::9]),
    ]


def moving_pictures(num_frames: int, size: tuple[int, int], seed: int) -> Iterator[np.ndarray]:
    """A texture that moves over a still one, with a little noise, as cameras have it."""
    rng = np.random.default_rng(seed)
    height, width = size
    still = rng.integers(0, 200, (height // 16, width // 16, 3)).astype(np.uint8)
    still = still.repeat(16, 0).repeat(16, 1)
    noise = rng.integers(0, 12, (4, *still.shape)).astype(np.uint8)
    block = rng.integers(0, 255, (height // 4, width // 4, 3)).astype(np.uint8)
    for number in range(num_frames):
        frame = still + noise[number % 4]
        left = (number * 7) % (width - width // 4)
        frame[height // 3 : height // 3 + height // 4, left : left + width // 4] = block
        yield frame[None]
