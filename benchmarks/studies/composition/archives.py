"""The archives that the composition study asks: rendered, labelled, and embedded by a stage 1 that is trained on them.

Their seed is none that a setting was chosen on. Everything is resumable: what a folder holds is not made again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks.demo.steps import CLASSES
from benchmarks.dives.archive import ArchiveConfig, write_archive
from benchmarks.studies.composition.conditions import HELD_OUT_CLASSES
from cluster.storage import write_atomic
from encoders.clips import read_clips, write_clips
from training.annotations.labels.dive_numbers import DIVE_CLASSES
from training.annotations.triplets.build import TripletConfig, build_triplets_with_report
from training.annotations.triplets.table import write_triplets
from training.configs import LaunchSettings, Stage1Config
from training.recipes import demo_actions, demo_actions_factored
from training.stage1.train import Stage1Inputs, train_stage1
from training.trainer.run_folder import BUNDLE
from training.vectors.compute import VectorsConfig, compute_vectors

SEED = 11
_LAUNCH = LaunchSettings(num_workers=0, show_progress=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchivePlan:
    """One archive and its stage 1."""

    name: str
    stage1: Stage1Config
    rendered: str
    """Folder of the rendered clips, which several plans may share."""
    classes: tuple[str, ...] = CLASSES
    clips_per_class: tuple[int, int, int] = (48, 8, 14)
    difficulty: str = "open"
    unseen: tuple[str, ...] = ()
    """Classes whose clips stage 1 never sees; they are embedded like the others."""
    num_triplets: int = 12_000


PLANS = {
    plan.name: plan
    for plan in (
        ArchivePlan(name="pairs", stage1=demo_actions(), rendered="open"),
        ArchivePlan(name="values", stage1=demo_actions_factored(), rendered="open"),
        ArchivePlan(
            name="unseen_class",
            stage1=demo_actions_factored(),
            rendered="open",
            unseen=HELD_OUT_CLASSES,
        ),
        ArchivePlan(
            name="full47",
            stage1=demo_actions(),
            rendered="full47",
            classes=DIVE_CLASSES,
            clips_per_class=(20, 5, 8),
            difficulty="full",
        ),
    )
}


def make_archive(plan: ArchivePlan, out_dir: Path) -> Path:
    """Returns the plan's folder: clips.parquet, triplets.parquet, stage1/bundle, vectors.parquet."""
    folder = out_dir / plan.name
    made = folder / "plan.txt"
    if made.exists() and made.read_text() == repr(plan):
        return folder
    rendered = write_archive(
        out_dir / plan.rendered,
        ArchiveConfig(
            classes=plan.classes,
            clips_per_class=plan.clips_per_class,
            difficulty=plan.difficulty,
            seed=SEED,
        ),
    )
    clips = read_clips(rendered)
    folder.mkdir(parents=True, exist_ok=True)
    write_clips(folder / "clips.parquet", clips)
    if not (folder / "triplets.parquet").exists():
        config = TripletConfig(num_triplets=plan.num_triplets)
        write_triplets(folder / "triplets.parquet", build_triplets_with_report(clips, config)[0])
    shown = folder / "shown_to_stage1.parquet"
    write_clips(shown, [clip for clip in clips if clip.label not in plan.unseen])
    # The image part is frozen and the same for all: its frame vectors are too.
    inputs = Stage1Inputs(
        clips_path=shown, frame_vectors_dir=out_dir / plan.rendered / "frame_vectors"
    )
    train_stage1(plan.stage1, inputs, folder / "stage1", _LAUNCH)
    _embed(folder / "clips.parquet", folder / "stage1" / BUNDLE, folder / "vectors.parquet")
    write_atomic(made, repr(plan))
    return folder


def add_distractors(folder: Path, labels: Collection[str | None], num_clips: int) -> Path:
    """About `num_clips` clips of the classes that the archive in `folder` lacks, embedded by its stage 1; returns their vectors."""
    classes = tuple(name for name in DIVE_CLASSES if name not in labels)
    if not classes:
        raise ValueError(
            f"{folder} has clips of all {len(DIVE_CLASSES)} classes: nothing distracts"
        )
    per_class = -(-num_clips // len(classes))
    out_dir = folder / "distractors"
    clips = write_archive(
        out_dir, ArchiveConfig(classes=classes, clips_per_class=(0, 0, per_class), seed=SEED)
    )
    _embed(clips, folder / "stage1" / BUNDLE, out_dir / "vectors.parquet")
    return out_dir / "vectors.parquet"


def _embed(clips: Path, bundle: Path, out: Path) -> None:
    compute_vectors(VectorsConfig(clips=clips, bundle=bundle, out=out, launch=_LAUNCH))
