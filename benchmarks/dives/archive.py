"""Renders an archive: one video file per clip, and the clips.parquet that names them.

Run again after a kill it renders only what is missing; the same config gives the same bytes.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import cv2

from benchmarks.dives.random_streams import clip_index
from benchmarks.dives.rendering.pose import render_clip
from benchmarks.dives.rendering.scene import find_preset
from benchmarks.dives.video import find_format, write_video
from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.clips import Clip, write_clips
from training.annotations.labels.dive_numbers import DIVE_CLASSES, parse_dive_number

ARCHIVE_SPLITS = ("train", "val", "test")
CONFIG = "archive.json"
Job = TypeVar("Job")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveConfig:
    """What an archive holds. Every value is part of what its bytes depend on."""

    classes: tuple[str, ...] = DIVE_CLASSES
    """FINA dive numbers."""
    clips_per_class: tuple[int, int, int] = (20, 4, 4)
    """train, val, test."""
    difficulty: str = "open"
    """open: close camera, calm background; full: neither."""
    size: int = 128
    """Width and height in pixels."""
    codec: str = "h264"
    """h264 (MP4) or vp9 (WebM)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes are {self.classes}; name each dive number once")
        for label in self.classes:
            parse_dive_number(label)
        if min(self.clips_per_class) < 0 or sum(self.clips_per_class) == 0:
            raise ValueError(
                f"clips_per_class is {self.clips_per_class}; give counts of at least 0"
            )
        if self.size < 16 or self.size % 2:
            raise ValueError(f"size is {self.size}; it must be an even number of at least 16")
        find_preset(self.difficulty)
        find_format(self.codec)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ClipJob:
    label: str
    split: str
    ordinal: int

    def name(self) -> str:
        return f"{self.split}-{self.label}-{self.ordinal:04d}"


def write_archive(
    out_dir: Path, config: ArchiveConfig, *, num_workers: int | None = None, quiet: bool = False
) -> Path:
    """Render what is missing; returns the path of clips.parquet, which is written last."""
    claim_folder(out_dir, {"kind": "clips", **asdict(config)})
    jobs = list(_jobs(config))
    suffix = find_format(config.codec).suffix
    paths = {job: out_dir / job.split / f"{job.name()}{suffix}" for job in jobs}
    missing = [(job, config, path) for job, path in paths.items() if not path.exists()]
    run_jobs(_render_job, missing, num_workers=num_workers, quiet=quiet, title="render")
    clips = [
        Clip(
            clip_id=job.name(),
            video_uri=str(path.resolve()),
            label=job.label,
            split=job.split,
            attributes=parse_dive_number(job.label).attributes,
        )
        for job, path in paths.items()
    ]
    clips_path = out_dir / "clips.parquet"
    write_clips(clips_path, clips)
    return clips_path


def claim_folder(out_dir: Path, description: dict[str, object]) -> None:
    """Write what the folder is to hold; ValueError if it holds something else."""
    path = out_dir / CONFIG
    wanted = json.dumps(description, indent=1)
    if path.exists():
        if path.read_text() != wanted:
            raise ValueError(
                f"{out_dir} holds another archive (see {path}); choose another folder, or delete it"
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(path, wanted)


def run_jobs(
    work: Callable[[Job], object],
    jobs: Sequence[Job],
    *,
    num_workers: int | None,
    quiet: bool,
    title: str,
) -> None:
    """All jobs over processes, with a progress bar; the first error ends it and comes out.

    One worker is this process. More are spawned, never forked: OpenCV's threads do not survive a fork and would wait for ever.
    """
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; it must be at least 1")
    if not jobs:
        return
    workers = min(num_workers or os.cpu_count() or 1, len(jobs))
    if workers == 1:
        for _ in _shown(map(work, jobs), len(jobs), title=title, quiet=quiet):
            pass
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=cv2.setNumThreads,
        initargs=(1,),
    ) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in _shown(as_completed(futures), len(jobs), title=title, quiet=quiet):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _shown(done: Iterable, total: int, *, title: str, quiet: bool) -> Iterator:
    with progress_bar(title, total, shown=not quiet) as update:
        for number, result in enumerate(done, start=1):
            yield result
            update(number)


def _jobs(config: ArchiveConfig) -> Iterator[_ClipJob]:
    for split, count in zip(ARCHIVE_SPLITS, config.clips_per_class, strict=True):
        for ordinal in range(count):
            for label in config.classes:
                yield _ClipJob(label=label, split=split, ordinal=ordinal)


def _render_job(job: tuple[_ClipJob, ArchiveConfig, Path]) -> None:
    clip, config, path = job
    rendered = render_clip(
        clip.label,
        seed=config.seed,
        split=clip.split,
        index=clip_index(clip.label, clip.ordinal),
        difficulty=config.difficulty,
        size=config.size,
    )
    write_video(path, [rendered.frames_THWC], codec=config.codec)
