"""End-to-end indexing throughput as a share of the machine: the whole flow against its parts alone, a plain script, and twice the cores."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.harness.steps import index_command
from benchmarks.throughput.decode import moving_pictures
from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.clips import Clip, write_clips
from encoders.decoding.decode import decode_clips
from encoders.media.frame_index import Span
from encoders.stages.base import span_row
from encoders.stages.decode_stage import DecodeStage
from encoders.stages.embed_stage import EmbedStage
from indexing.ledger.summary import SUMMARY
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.rows import collection_row

_FPS = 25
_CLIPS_PER_VIDEO = 4
_NUM_VIDEOS, _NUM_DRAWN = 80, 4
_SIZES = ("few", "many")
_INSERT_ROWS = 32


def measure_flow(
    bundle_dir: Path, *, num_rounds: int, scale: float, folder: Path, say: Callable[[str], None]
) -> dict[str, object]:
    """End to end over CPU-seconds alone, over a sequential script, and on two cores over one."""
    cores = sorted(os.sched_getaffinity(0))
    say("flow: making the archives")
    archives = write_archives(folder, max(int(_NUM_VIDEOS * scale), 4))
    clips = archives[1]
    rates: dict[str, list[float]] = {
        "limit": [],
        "flow": [],
        "sequential": [],
        "one": [],
        "two": [],
    }
    cpu_s: list[dict[str, float]] = []
    for number in range(num_rounds):
        say(f"flow: round {number + 1} of {num_rounds}")
        place = folder / f"round-{number}"
        cpu_s.append(cpu_seconds_alone(bundle_dir, archives[0], place))
        rates["limit"].append(len(cores) / sum(cpu_s[-1].values()))
        rates["sequential"].append(sequential_rate(bundle_dir, clips, place, len(cores)))
        rates["flow"].append(_flow_rate(bundle_dir, archives, place / "flow", cores))
        if number == 0:  # one core takes as long as all else together
            rates["one"].append(_flow_rate(bundle_dir, archives, place / "one", cores[:1]))
        if cores[:2] != cores:
            rates["two"].append(_flow_rate(bundle_dir, archives, place / "two", cores[:2]))
    rates["two"] = rates["two"] or rates["flow"]
    return {
        "clips": [len(archive) for archive in archives],
        "cpu_s_per_clip": {part: _median(seconds[part] for seconds in cpu_s) for part in cpu_s[0]},
        "clips_per_s": rates,
        "cpu_limit_clips_per_s": _median(rates["limit"]),
        "cpu_efficiency": _ratio(rates["flow"], rates["limit"]),
        "sequential_ratio": _ratio(rates["flow"], rates["sequential"]),
        "two_worker_speedup": _median(rates["two"]) / _median(rates["one"]),
    }


def _ratio(rates: Sequence[float], others: Sequence[float]) -> float:
    """Median of the ratios within rounds: what slows a shared machine for a while slows both."""
    return _median(rate / other for rate, other in zip(rates, others, strict=True))


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


@contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """What is started inside, Ray with all its workers, runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds_alone(bundle_dir: Path, clips: Sequence[Clip], folder: Path) -> dict[str, float]:
    """CPU-seconds per clip of decode, encode and write, each in this process with nothing beside it; rows go to a new collection in `folder`."""
    card = read_card(bundle_dir)
    decode = DecodeStage(sampling=card.sampling, isolate=False)
    embed = EmbedStage(bundle_dir=str(bundle_dir))
    rows_by_video = _video_rows(clips)
    list(decode(rows_by_video[0]))  # loads what a first call loads
    seconds: dict[str, float] = {}
    with _cpu_time(seconds, "decode", len(clips)):
        decoded = [row for video in rows_by_video for row in decode(video)]
    batches = [
        {key: np.array([row[key] for row in part]) for key in ("clip_id", "frames", "error")}
        for part in (decoded[i : i + 8] for i in range(0, len(decoded), 8))
    ]
    embed({key: column.copy() for key, column in batches[0].items()})
    with _cpu_time(seconds, "encode", len(clips)):
        vectors_ND = np.concatenate([embed(batch)["embedding"] for batch in batches])
    with open_collection(str(folder / "alone"), "clips") as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        with _cpu_time(seconds, "write", len(clips)):
            _insert(collection, clips, vectors_ND)
    return seconds


def sequential_rate(
    bundle_dir: Path, clips: Sequence[Clip], place: Path, num_threads: int
) -> float:
    """Decode a video, embed its clips with all threads, insert in batches: what one would write first."""
    card = read_card(bundle_dir)
    encoder = open_backend(bundle_dir, "onnx", num_threads=num_threads)
    with open_collection(str(place / "sequential"), "clips") as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        started = time.perf_counter()
        waiting: list[Clip] = []
        vectors: list[np.ndarray] = []
        for video in _video_rows(clips):
            spans = [Span(**span) for span in video["spans"]]
            decoded = decode_clips(video["video_uri"], spans, card.sampling)
            vectors += list(encoder.embed_clips(decoded.frames_NTHWC))
            waiting += [
                Clip(clip_id=clip_id, video_uri=video["video_uri"]) for clip_id in video["clip_ids"]
            ]
            if len(waiting) >= _INSERT_ROWS:
                _insert(collection, waiting, np.array(vectors))
                waiting, vectors = [], []
        _insert(collection, waiting, np.array(vectors))
        return len(clips) / (time.perf_counter() - started)


def _flow_rate(
    bundle_dir: Path, archives: Sequence[Sequence[Clip]], place: Path, cores: Sequence[int]
) -> float:
    """Clips per second that the large archive has beyond the small one, by the time that it takes beyond it; a worker per core.

    So what every run pays once is excluded, as loading the encoder is for the script, and nothing that was done meanwhile is a gift.
    """
    with _on_cores(cores):
        seconds = [
            _index_seconds(bundle_dir, place.parent.parent / name, place / name, len(cores))
            for name in _SIZES
        ]
    few, many = (len(archive) for archive in archives)
    return (many - few) / (seconds[1] - seconds[0])


def _index_seconds(bundle_dir: Path, archive: Path, place: Path, num_workers: int) -> float:
    """From the start of the workers to the last row."""
    options: list[str] = []
    for stage in ("decode", "embed"):  # Ray counts the machine's cores, not those that we may use
        options += [f"--workers.num-{stage}-workers", str(num_workers)]
    command = index_command(bundle_dir, archive / "clips.parquet", place, *options)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return float(json.loads((place / "run" / SUMMARY).read_text())["seconds"])


def _insert(collection: ClipCollection, clips: Sequence[Clip], vectors_ND: np.ndarray) -> None:
    for first in range(0, len(clips), _INSERT_ROWS):
        collection.upsert(
            [
                collection_row(
                    clip,
                    key=clip.clip_id,
                    embedding_D=vector_D,
                    backend="onnx",
                    precision="float32",
                )
                for clip, vector_D in zip(
                    clips[first : first + _INSERT_ROWS],
                    vectors_ND[first : first + _INSERT_ROWS],
                    strict=True,
                )
            ]
        )


def _video_rows(clips: Sequence[Clip]) -> list[dict[str, Any]]:
    by_video: dict[str, list[Clip]] = {}
    for clip in clips:
        by_video.setdefault(clip.video_uri, []).append(clip)
    return [
        {
            "video_uri": video_uri,
            "clip_ids": [clip.clip_id for clip in members],
            "spans": [span_row(clip) for clip in members],
        }
        for video_uri, members in by_video.items()
    ]


def write_archives(folder: Path, num_videos: int) -> list[list[Clip]]:
    """A small and a large archive of 720p videos, each video its own file with its own content hash."""
    drawn = [folder / f"drawn-{number}.mp4" for number in range(_NUM_DRAWN)]
    for number, path in enumerate(drawn):
        frames = moving_pictures(_CLIPS_PER_VIDEO * 2 * _FPS, (720, 1280), number)
        write_video(path, frames, codec="h264")
    clips = []
    for number in range(num_videos):
        path = folder / f"{number:04d}.mp4"
        # A box that players skip, so that no two files are alike.
        content = f"video {number}".encode()
        box = (8 + len(content)).to_bytes(4, "big") + b"free" + content
        path.write_bytes(drawn[number % _NUM_DRAWN].read_bytes() + box)
        clips += [
            Clip(
                clip_id=f"{number:04d}-{i}",
                video_uri=str(path),
                start_s=2.0 * i,
                end_s=2.0 * (i + 1),
            )
            for i in range(_CLIPS_PER_VIDEO)
        ]
    archives = [clips[: len(clips) // 4], clips]
    for name, archive in zip(_SIZES, archives, strict=True):
        write_clips(folder / name / "clips.parquet", archive)
    return archives


@contextmanager
def _cpu_time(seconds: dict[str, float], name: str, num_clips: int) -> Iterator[None]:
    started = time.process_time()
    yield
    seconds[name] = (time.process_time() - started) / num_clips
