"""Time and memory in which the builder makes the paper's number of triplets.

306 labels and 50,000 clips are drawn, 180,000 triplets with 3.9 targets on average are built in a
process of its own, so that its peak memory is that of this work and the interpreter alone.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product

from encoders.clips import Clip
from training.annotations.labels.pairs import stable_hash
from training.annotations.triplets.build import TripletConfig, build_triplets_with_report
from training.annotations.triplets.gallery import cap_gallery


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletScale:
    """How large the drawn archive is, and what is asked of it."""

    num_labels: int = 306
    num_clips: int = 50_000
    num_triplets: int = 180_000
    targets_per_query: float = 3.9
    clips_per_video: int = 5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletFigures:
    """What was built; `seconds` is the builder's and the gallery's time, without drawing the clips."""

    num_triplets: int
    seconds: float
    peak_gb: float
    mean_targets: float
    num_targets_in_query_video: int
    """Must be 0."""
    num_gallery_clips: int
    unlisted_answers_per_query: float


def measure_triplets(scale: TripletScale | None = None) -> TripletFigures:
    """In a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(build_at_scale, scale or TripletScale()).result()


def build_at_scale(scale: TripletScale) -> TripletFigures:
    """In this process: its peak memory is what the process ever held."""
    clips = draw_clips(scale)
    started = time.perf_counter()
    triplets, report = build_triplets_with_report(
        clips,
        TripletConfig(
            num_triplets=scale.num_triplets,
            max_targets=scale.targets_per_query,
            complete_splits=(),
        ),
    )
    gallery = cap_gallery(triplets, clips)
    seconds = time.perf_counter() - started
    video = {clip.clip_id: clip.video_uri for clip in clips}
    return TripletFigures(
        num_triplets=report.num_triplets,
        seconds=seconds,
        peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        mean_targets=report.mean_targets_per_query,
        num_targets_in_query_video=sum(
            video[target] == video[triplet.query_clip_id]
            for triplet in triplets
            for target in triplet.target_clip_ids
        ),
        num_gallery_clips=len(gallery.clips),
        unlisted_answers_per_query=gallery.unlisted_answers_per_query,
    )


def draw_clips(scale: TripletScale) -> list[Clip]:
    """Clips of `num_labels` labels that differ in a grid of attributes; a video holds clips of any labels and one split."""
    grid = list(
        product(
            ("forward", "back", "reverse", "inward"),
            [f"{half / 2:g}" for half in range(1, 10)],
            [f"{half / 2:g}" for half in range(8)],
            ("straight", "pike", "tuck"),
        )
    )
    grid.sort(key=lambda point: stable_hash("label", *point))
    if scale.num_labels > len(grid):
        raise ValueError(f"num_labels is {scale.num_labels}; it must be at most {len(grid)}")
    names = ("take_off", "somersaults", "twists", "position")
    labels: list[dict[str, str]] = [
        dict(zip(names, point, strict=True)) for point in grid[: scale.num_labels]
    ]
    clips = []
    for number in range(scale.num_clips):
        video = number // scale.clips_per_video
        label = stable_hash("clip", number) % scale.num_labels
        clips.append(
            Clip(
                clip_id=f"clip-{number:06d}",
                video_uri=f"/videos/{video:06d}.mp4",
                label=f"label-{label:03d}",
                split=("train", "train", "train", "val", "test")[stable_hash("split", video) % 5],
                attributes=labels[label],
            )
        )
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    import tyro

    name = "python -m benchmarks.fidelity.triplets"
    scale = tyro.cli(TripletScale, args=argv, prog=name, description=__doc__)
    figures = measure_triplets(scale)
    for name, value in asdict(figures).items():
        sys.stdout.write(
            f"{name}: {value:.4g}\n" if isinstance(value, float) else f"{name}: {value}\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
