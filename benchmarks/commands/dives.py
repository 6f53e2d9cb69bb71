"""tfcovr dives: render an archive of dives."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.annotations.labels.dive_numbers import DIVE_CLASSES

EXAMPLES = """
  tfcovr dives runs/archive --classes 103b 105b 107b --clips-per-class 20 4 4
  tfcovr dives runs/full --difficulty full --size 224
  tfcovr dives runs/vp9 --codec vp9 --classes 5152b 5154b
  tfcovr dives runs/broadcasts --num-broadcasts 2 --num-dives 200
  tfcovr dives runs/raw --num-broadcasts 4 --num-dives 20 --raw --dead-time-s 2 8
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Render an archive of dives: real video files with known classes.

    What differs between classes is the dive alone: take-off, somersaults, twists, position, armstand. Diver, pool, camera, light,
    pace and length are drawn without knowing the class.
    """

    out_dir: Annotated[Path, tyro.conf.Positional]
    """The folder of the archive: videos and clips.parquet. Run again, it renders what is missing."""
    classes: tuple[str, ...] = DIVE_CLASSES
    """FINA dive numbers; all classes of the TF-CoVR labels unless given."""
    clips_per_class: tuple[int, int, int] = (20, 4, 4)
    """train, val, test."""
    difficulty: Literal["open", "full"] = "open"
    """open: close camera, calm background; full: neither."""
    size: int = 128
    """Width and height in pixels."""
    codec: Literal["h264", "vp9"] = "h264"
    """h264 in MP4, or vp9 in WebM."""
    seed: int = 0
    num_broadcasts: int = 0
    """Write this many long videos per split instead, with dead time between the dives."""
    num_dives: int = 20
    """Dives per broadcast."""
    dead_time_s: tuple[float, float] = (1.0, 6.0)
    """Shortest and longest pause before a dive of a broadcast."""
    raw: bool = False
    """Broadcasts as a truck records them: divers who wait, cutaways, captions drawn in, and replays in slow motion from another
    camera."""
    num_workers: int | None = None
    """Processes; None = one per core."""
    quiet: bool = False
    """No progress bar."""


def run(config: Config) -> int:
    """Render, and say what was made."""
    from benchmarks.dives.archive import ArchiveConfig, write_archive
    from benchmarks.dives.broadcast import write_broadcasts
    from benchmarks.dives.broadcast_plan import BroadcastConfig, RawConfig
    from encoders.clips import read_clips

    archive = ArchiveConfig(
        classes=config.classes,
        clips_per_class=config.clips_per_class,
        difficulty=config.difficulty,
        size=config.size,
        codec=config.codec,
        seed=config.seed,
    )
    started = time.monotonic()
    if config.num_broadcasts:
        broadcasts = BroadcastConfig(
            archive=archive,
            num_broadcasts=config.num_broadcasts,
            num_dives=config.num_dives,
            dead_time_s=config.dead_time_s,
            raw=RawConfig() if config.raw else None,
        )
        clips_path = write_broadcasts(
            config.out_dir, broadcasts, num_workers=config.num_workers, quiet=config.quiet
        )
    else:
        clips_path = write_archive(
            config.out_dir, archive, num_workers=config.num_workers, quiet=config.quiet
        )
    clips = read_clips(clips_path)
    num_videos = len({clip.video_uri for clip in clips})
    sys.stdout.write(
        f"{clips_path}: {len(clips)} clips in {num_videos} videos "
        f"({time.monotonic() - started:.1f} s)\n"
    )
    return 0
