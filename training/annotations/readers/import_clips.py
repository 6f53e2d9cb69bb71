"""The command `tfcovr import-annotations`: other people's label files -> clips.parquet, and triplets.parquet where they hold some.

Beside clips.parquet: clips.json, the account of the run, clips.missing.txt, the videos that are not there,
and with --skip-bad clips.problems.txt, the rows that were left out and why.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.storage import write_atomic
from encoders.clips import Clip, write_clips
from training.annotations.readers.clip_table import missing_videos, read_clip_table
from training.annotations.readers.finediving import FineDivingFiles, read_finediving
from training.annotations.readers.finegym import FineGymFiles, class_names, read_finegym
from training.annotations.readers.frame_folders import pack_missing_videos
from training.annotations.readers.rows import Problems
from training.annotations.readers.tfcovr import TfcovrFiles, read_tfcovr
from training.annotations.readers.video_folder import VideoFolder
from training.annotations.triplets.table import Triplet, write_triplets


@dataclass(frozen=True, kw_only=True, slots=True)
class _Output:
    out: Path
    """clips.parquet, written here."""
    skip_bad: bool = False
    """Leave bad rows out and list them, instead of ending at the first."""
    only_present: bool = False
    """Leave out clips whose video is not there; they are listed all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportFineGym(_Output):
    """FineGym: annotation JSON and split files."""

    files: FineGymFiles
    videos: Path
    """Folder of the videos, cut as --files.cut says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportFineDiving(_Output):
    """FineDiving: annotation pickle and split pickles."""

    files: FineDivingFiles
    videos: Path
    """Folder of the videos, cut as --files.cut says."""
    frames: Path | None = None
    """Folder of frame folders COMPETITION/NUMBER/*.jpg: each is packed into --videos where its video is not there."""
    frames_per_s: float = 30.0
    """At which rate packed frames play; the released code takes 30."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportTfcovr(_Output):
    """TF-CoVR: train, val and test CSV, and the stage 1 CSV."""

    files: TfcovrFiles
    videos: Path | None = None
    """Folder of the videos; None = <out>/../videos, which need not be there when embeddings are used."""
    categories: Path | None = None
    """gym288_categories.txt, if you know that the numeric label keys are its class numbers: it names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportTable(_Output):
    """A CSV or Parquet of your own."""

    table: Path
    """Columns video_uri and, if wanted, clip_id, start_s, end_s, label, split, attribute.NAME."""


ImportConfig = ImportFineGym | ImportFineDiving | ImportTfcovr | ImportTable


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What an import made, and what is not there."""

    num_clips: int
    num_by_split: Mapping[str, int]
    num_labels: int
    num_clips_without_label: int
    labels_without_attributes: tuple[str, ...]
    """Their name is not known or says nothing: no edit leads from or to them."""
    num_triplets: int
    num_missing_videos: int
    num_clips_of_missing_videos: int
    num_clips_left_out: int
    num_videos_in_several_splits: int
    num_bad_rows: int
    num_packed: int = 0
    """Frame folders packed into videos by this run."""


@dataclass(kw_only=True, slots=True)
class _Found:
    clips: list[Clip]
    missing: Mapping[str, list[str]]
    triplets: list[Triplet] = field(default_factory=list)
    num_in_several_splits: int = 0
    num_packed: int = 0


def import_annotations(config: ImportConfig) -> ImportReport:
    """Read, check, write. ValueError names file, line and column of the first bad row."""
    problems = Problems(skip_bad=config.skip_bad)
    found = _read(config, problems)
    if not found.clips:
        raise ValueError(f"no clips were found; {len(problems.found)} rows are bad")
    absent = {clip_id for clip_ids in found.missing.values() for clip_id in clip_ids}
    clips = [clip for clip in found.clips if not (config.only_present and clip.clip_id in absent)]
    if not clips:
        raise ValueError(
            f"the videos of all {len(found.clips)} clips are missing: {sorted(absent)[:3]} ..."
        )
    out = config.out
    write_clips(out, clips)
    if found.triplets:
        write_triplets(out.with_name("triplets.parquet"), found.triplets)
    _write_list(out.with_suffix(".missing.txt"), sorted(found.missing))
    _write_list(out.with_suffix(".problems.txt"), problems.found)
    labels = {clip.label: clip.attributes for clip in clips if clip.label is not None}
    report = ImportReport(
        num_clips=len(clips),
        num_by_split=dict(sorted(Counter(clip.split or "" for clip in clips).items())),
        num_labels=len(labels),
        num_clips_without_label=sum(clip.label is None for clip in clips),
        labels_without_attributes=tuple(
            sorted(label for label, said in labels.items() if not said)
        ),
        num_triplets=len(found.triplets),
        num_missing_videos=len(found.missing),
        num_clips_of_missing_videos=len(absent),
        num_clips_left_out=len(found.clips) - len(clips),
        num_videos_in_several_splits=found.num_in_several_splits,
        num_bad_rows=len(problems.found),
        num_packed=found.num_packed,
    )
    record = {"config": asdict(config), "report": asdict(report)}
    write_atomic(out.with_suffix(".json"), json.dumps(record, indent=1, default=os.fspath))
    return report


def _read(config: ImportConfig, problems: Problems) -> _Found:
    if isinstance(config, ImportTable):
        clips = read_clip_table(config.table, problems)
        return _Found(clips=clips, missing=missing_videos(clips))
    if isinstance(config, ImportTfcovr):
        return _read_tfcovr(config, problems)
    num_packed = 0
    if isinstance(config, ImportFineDiving) and config.frames is not None:
        num_packed = pack_missing_videos(
            config.frames, config.videos, frames_per_s=config.frames_per_s, problems=problems
        )
    videos = VideoFolder(config.videos)
    if isinstance(config, ImportFineGym):
        clips = read_finegym(config.files, videos, problems)
    else:
        clips = read_finediving(config.files, videos, problems)
    return _Found(clips=clips, missing=videos.missing, num_packed=num_packed)


def _read_tfcovr(config: ImportTfcovr, problems: Problems) -> _Found:
    files = config.files
    if not (files.train or files.val or files.test or files.stage1):
        raise ValueError(
            "no file is given; give --files.train, --files.val, --files.test or --files.stage1"
        )
    folder = config.videos or config.out.parent / "videos"
    videos = VideoFolder(folder, must_exist=config.videos is not None)
    named = TfcovrFiles(
        train=files.train,
        val=files.val,
        test=files.test,
        stage1=files.stage1,
        stage1_labels=files.stage1_labels,
        names={} if config.categories is None else _names_of_keys(config.categories),
    )
    tables = read_tfcovr(named, videos, problems)
    return _Found(
        clips=list(tables.clips.values()),
        missing=videos.missing,
        triplets=tables.triplets,
        num_in_several_splits=len(tables.in_several_splits),
    )


def _names_of_keys(categories: Path) -> dict[str, str]:
    return {str(n): name.split(" #")[0] for n, name in class_names("gym288", categories).items()}


def _write_list(path: Path, lines: Sequence[str]) -> None:
    if lines:
        write_atomic(path, "\n".join(lines) + "\n")
    else:
        path.unlink(missing_ok=True)
