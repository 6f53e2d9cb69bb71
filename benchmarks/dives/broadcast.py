"""Long videos: one broadcast of many dives from one pool, with dead time between them.

clips.parquet then names spans of a video, as real archives have them: many clips, few files.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.dives.archive import ARCHIVE_SPLITS, ArchiveConfig, claim_folder, run_jobs
from benchmarks.dives.motion.execution import FPS, draw_execution
from benchmarks.dives.motion.kinematics import perform
from benchmarks.dives.random_streams import open_stream
from benchmarks.dives.rendering.pose import clip_of
from benchmarks.dives.rendering.render import render_empty
from benchmarks.dives.rendering.scene import SceneIndices, draw_scene
from benchmarks.dives.video import find_format, write_video
from encoders.clips import Clip, write_clips
from training.annotations.labels.dive_numbers import parse_dive_number


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastConfig:
    """How many long videos, and how much happens in them; look and classes are the archive's."""

    archive: ArchiveConfig
    """clips_per_class is not used here."""
    num_broadcasts: int = 1
    """Per split."""
    num_dives: int = 20
    """Per broadcast."""
    dead_time_s: tuple[float, float] = (1.0, 6.0)
    """Shortest and longest pause before a dive."""

    def __post_init__(self) -> None:
        if self.num_broadcasts < 1 or self.num_dives < 1:
            raise ValueError(
                f"num_broadcasts is {self.num_broadcasts} and num_dives {self.num_dives}; "
                "both must be at least 1"
            )
        shortest, longest = self.dead_time_s
        if not 0 < shortest <= longest:
            raise ValueError(f"dead_time_s is {self.dead_time_s}; give 0 < shortest <= longest")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dive:
    """One dive of a broadcast: which, and where it is in the video (frames)."""

    label: str
    index: int
    first_frame: int
    end_frame: int
    pause_frames: int


def write_broadcasts(
    out_dir: Path, config: BroadcastConfig, *, num_workers: int | None = None, quiet: bool = False
) -> Path:
    """Render what is missing; returns the path of clips.parquet, which is written last."""
    claim_folder(out_dir, {"kind": "broadcasts", **asdict(config)})
    suffix = find_format(config.archive.codec).suffix
    paths = {
        (split, number): out_dir / split / f"{split}-broadcast-{number:04d}{suffix}"
        for split in ARCHIVE_SPLITS
        for number in range(config.num_broadcasts)
    }
    missing = [
        (config, split, number, path)
        for (split, number), path in paths.items()
        if not path.exists()
    ]
    run_jobs(_render_job, missing, num_workers=num_workers, quiet=quiet, title="render")
    clips = [
        Clip(
            clip_id=f"{path.stem}-{position:04d}-{dive.label}",
            video_uri=str(path.resolve()),
            start_s=dive.first_frame / FPS,
            end_s=dive.end_frame / FPS,
            label=dive.label,
            split=split,
            attributes=parse_dive_number(dive.label).attributes,
        )
        for (split, number), path in paths.items()
        for position, dive in enumerate(plan_broadcast(config, split, number))
    ]
    clips_path = out_dir / "clips.parquet"
    write_clips(clips_path, clips)
    return clips_path


def plan_broadcast(config: BroadcastConfig, split: str, number: int) -> list[_Dive]:
    """What happens when; known without rendering."""
    rng = open_stream(seed=config.archive.seed, split=split, index=number, purpose="broadcast")
    dives, frame = [], 0
    for _ in range(config.num_dives):
        label = config.archive.classes[int(rng.integers(len(config.archive.classes)))]
        pause = round(float(rng.uniform(*config.dead_time_s)) * FPS) or 1
        index = int(rng.integers(1 << 48))
        stream = open_stream(
            seed=config.archive.seed, split=split, index=index, purpose="execution"
        )
        first = frame + pause
        frame = first + draw_execution(stream).num_frames
        dives.append(
            _Dive(label=label, index=index, first_frame=first, end_frame=frame, pause_frames=pause)
        )
    return dives


def _render_job(job: tuple[BroadcastConfig, str, int, Path]) -> None:
    config, split, number, path = job
    write_video(path, _render(config, split, number), codec=config.archive.codec)


def _render(config: BroadcastConfig, split: str, number: int) -> Iterator[np.ndarray]:
    """Pause, dive, pause, dive ...: one chunk of frames each, so that memory stays small."""
    look = config.archive
    for dive in plan_broadcast(config, split, number):
        stream = open_stream(seed=look.seed, split=split, index=dive.index, purpose="execution")
        execution = draw_execution(stream)
        scene = draw_scene(
            execution,
            SceneIndices(clip=dive.index, pool=number),
            seed=look.seed,
            split=split,
            difficulty=look.difficulty,
            size_px=look.size,
        )
        motion = perform(parse_dive_number(dive.label), execution)
        yield render_empty(scene, board_m=motion.board_m, frame=0, num_frames=dive.pause_frames)
        yield clip_of(motion, scene).frames_THWC
