"""What share of the machine reaches the archive? The whole flow against its parts alone, a plain script, and twice the cores."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.index_decode import moving_pictures
from encoders.backends import open_backend
from encoders.card import read_card
from encoders.clips import Clip, write_clips
from encoders.decode import Span, decode_clips
from encoders.stages import DecodeStage, EmbedStage
from indexing.milvus import ClipCollection, open_collection
from indexing.summary import SUMMARY
from indexing.write import collection_row

_FPS = 25
_CLIPS_PER_VIDEO = 4
_INSERT_ROWS = 32


def measure_flow(
    bundle_dir: Path, *, num_rounds: int, scale: float, folder: Path, say: Callable[[str], None]
) -> dict[str, object]:
    """End to end over CPU-seconds alone, over a sequential script, and on two cores over one."""
    cores = sorted(os.sched_getaffinity(0))
    say("flow: making the archive")
    clips = _write_archive(folder, max(int(150 * scale), 4))
    say(f"flow: each part alone, {len(clips)} clips")
    cpu_s = cpu_seconds_alone(bundle_dir, clips[: max(len(clips) // 4, 16)], folder)
    rates: dict[str, list[float]] = {"flow": [], "sequential": [], "one": [], "two": []}
    for number in range(num_rounds):
        say(f"flow: round {number + 1} of {num_rounds}")
        place = folder / f"round-{number}"
        rates["sequential"].append(_sequential_rate(bundle_dir, clips, place, len(cores)))
        for name, chosen in (("flow", cores), ("one", cores[:1]), ("two", cores[:2])):
            if name == "two" and chosen == cores:
                rates["two"].append(rates["flow"][-1])
                continue
            with _on_cores(chosen):
                rates[name].append(_index_rate(bundle_dir, folder, place / name))
    median = {name: float(np.median(found)) for name, found in rates.items()}
    limit_per_s = len(cores) / sum(cpu_s.values())
    return {
        "clips": len(clips),
        "cpu_s_per_clip": cpu_s,
        "clips_per_s": rates,
        "cpu_limit_clips_per_s": limit_per_s,
        "cpu_efficiency": median["flow"] / limit_per_s,
        "sequential_ratio": median["flow"] / median["sequential"],
        "two_worker_speedup": median["two"] / median["one"],
    }


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
    """CPU-seconds per clip of decode, encode and write, each in this process with nothing beside it."""
    card = read_card(bundle_dir)
    decode = DecodeStage(sampling=card.sampling, isolate=False)
    embed = EmbedStage(bundle_dir=str(bundle_dir))
    rows_by_video = _video_rows(clips)
    list(decode(rows_by_video[0]))  # loads what a first call loads
    seconds: dict[str, float] = {}
    with _cpu_time(seconds, "decode", len(clips)):
        decoded = [row for video in rows_by_video for row in decode(video)]
    batches = [
        {key: np.array([row[key] for row in part], dtype=object) for key in ("clip_id", "frames")}
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


def _sequential_rate(
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
            spans = [
                Span(start_s=start_s, end_s=end_s)
                for start_s, end_s in zip(video["starts_s"], video["ends_s"], strict=True)
            ]
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


def _index_rate(bundle_dir: Path, folder: Path, place: Path) -> float:
    """Once warm: starting the workers is excluded, as loading the encoder is for the script; of a tiny archive, over all.

    In a process of its own: Ray starts its own by fork, which is not safe where Milvus has run.
    """
    command = [sys.executable, "-m", "indexing.pipeline", "--bundle-dir", str(bundle_dir)]
    command += ["--clips", str(folder / "clips.parquet"), "--milvus-uri", str(place / "milvus")]
    command += ["--run-dir", str(place / "run")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((place / "run" / SUMMARY).read_text())
    return summary["clips_per_s_warm"] or summary["clips_per_s"]


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
            "clip_ids": [one.clip_id for one in members],
            "starts_s": [one.start_s for one in members],
            "ends_s": [one.end_s for one in members],
        }
        for video_uri, members in by_video.items()
    ]


def _write_archive(folder: Path, num_videos: int) -> list[Clip]:
    clips = []
    for number in range(num_videos):
        path = folder / f"{number:04d}.mp4"
        write_video(
            path, moving_pictures(_CLIPS_PER_VIDEO * 2 * _FPS, (240, 320), number), codec="h264"
        )
        clips += [
            Clip(
                clip_id=f"{number:04d}-{i}",
                video_uri=str(path),
                start_s=2.0 * i,
                end_s=2.0 * (i + 1),
            )
            for i in range(_CLIPS_PER_VIDEO)
        ]
    write_clips(folder / "clips.parquet", clips)
    return clips


@contextmanager
def _cpu_time(seconds: dict[str, float], name: str, num_clips: int) -> Iterator[None]:
    started = time.process_time()
    yield
    seconds[name] = (time.process_time() - started) / num_clips
