"""Is our decode plan as fast as the best other way to the same frames? Three archives, all ways side by side in one run."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.harness import summarize_samples
from benchmarks.index_peers import Plan, available_peers, decode_planned_packets
from encoders.decode import DecodeRequest, Span, iter_spans
from encoders.sampling import SamplingConfig, sample_positions

_FPS = 25
_NUM_FRAMES, _SIZE = 12, 224
_SPAN_FRAMES = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeArchive:
    """Videos with their spans, as (first frame, end frame)."""

    name: str
    videos: tuple[Path, ...]
    ranges: tuple[tuple[int, int], ...]
    """The same in every video."""

    @property
    def plan(self) -> Plan:
        """Frame numbers of each clip, by the sampling of the encoder."""
        return [first + sample_positions(end - first, _NUM_FRAMES) for first, end in self.ranges]

    @property
    def num_clips(self) -> int:
        return len(self.videos) * len(self.ranges)


def measure_decode(
    *, num_rounds: int, scale: float, folder: Path | None = None
) -> dict[str, object]:
    """Clips/s of each way and archive, medians of interleaved rounds; `scale` shrinks the archives."""
    with tempfile.TemporaryDirectory() as temporary:
        archives = _write_archives(folder or Path(temporary), scale)
        figures: dict[str, object] = {}
        for archive in archives:
            figures |= _measure_archive(archive, num_rounds)
        return figures


def _measure_archive(archive: DecodeArchive, num_rounds: int) -> dict[str, object]:
    ways = {"ours": _ours} | available_peers()
    if archive.name == "dense":
        ways["libav_planned"] = decode_planned_packets
    rates: dict[str, list[float]] = {name: [] for name in ways}
    decoded: dict[str, int] = {}
    for number in range(num_rounds + 1):  # the first round warms up
        order = list(ways.items())
        for name, way in order[number % len(order) :] + order[: number % len(order)]:
            started = time.perf_counter()
            decoded[name] = sum(way(path, archive.plan, _SIZE) for path in archive.videos)
            rates[name].append(archive.num_clips / (time.perf_counter() - started))
    samples = {name: summarize_samples(found, warmup=1) for name, found in rates.items()}
    peers = {name: one.median for name, one in samples.items() if name in available_peers()}
    best = max(peers, key=lambda name: peers[name])
    ours = samples["ours"].median
    used = len(archive.videos) * len({int(n) for numbers in archive.plan for n in numbers})
    figures: dict[str, object] = {
        f"decode_{archive.name}_clips_per_s": samples,
        f"decode_ratio_{archive.name}": ours / peers[best],
        f"decode_best_peer_{archive.name}": best,
        f"decode_{archive.name}_frames_decoded": decoded["ours"],
        f"decode_{archive.name}_frames_used": used,
    }
    if archive.name == "dense":
        figures["decode_dense_over_seek"] = ours / peers["pyav_seek"]
        figures["decode_dense_of_libav"] = ours / samples["libav_planned"].median
    return figures


def _ours(path: Path, plan: Plan, size: int) -> int:
    spans = tuple(
        # A tenth of a frame early: binary fractions must not move a bound across a frame.
        Span(start_s=max((n[0] - _offset()) / _FPS - 0.1 / _FPS, 0.0), end_s=_end_s(n))
        for n in plan
    )
    sampling = SamplingConfig(num_frames=_NUM_FRAMES, frame_size=size)
    num_decoded = 0
    request = DecodeRequest(video=str(path), spans=spans, sampling=sampling)
    for number, span in enumerate(sorted(iter_spans(request), key=lambda one: one.number)):
        if span.frame_indices_T is None or span.frame_indices_T.tolist() != plan[number].tolist():
            raise ValueError(f"{path}: clip {number} came with other frames than the peers decode")
        num_decoded = max(num_decoded, span.num_frames_decoded)
    return num_decoded


def _offset() -> int:
    """Of the first sampled frame from its span's start."""
    return int(sample_positions(_SPAN_FRAMES, _NUM_FRAMES)[0])


def _end_s(numbers: np.ndarray) -> float:
    return (int(numbers[0]) - _offset() + _SPAN_FRAMES) / _FPS - 0.1 / _FPS


def _write_archives(folder: Path, scale: float) -> list[DecodeArchive]:
    num_short = max(int(60 * scale), 2)
    seconds = max(int(120 * scale), 4)
    short = tuple(folder / f"short-{number}.mp4" for number in range(num_short))
    for number, path in enumerate(short):
        write_video(path, moving_pictures(2 * _FPS, (240, 320), number), codec="h264")
    long = folder / "long.mp4"  # x264 sets a keyframe every 250 frames unless the picture is cut
    write_video(long, moving_pictures(seconds * _FPS, (720, 1280), 1), codec="h264")
    every_s = tuple((s * _FPS, s * _FPS + _SPAN_FRAMES) for s in range(seconds))
    return [
        DecodeArchive(name="short", videos=short, ranges=((0, _SPAN_FRAMES),)),
        DecodeArchive(name="dense", videos=(long,), ranges=every_s),
        DecodeArchive(name="sparse", videos=(long,), ranges=every_s[2::17]),
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
