"""The probe set that drift is measured on: clips of an archive with labels and triplets, or synthetic ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoders.bundle.canaries import synthetic_clips
from encoders.clips import read_clips
from encoders.decoding.isolated import iter_clip_frames
from encoders.export.drift import Probe, ProbeQuery
from encoders.export.parity import sample_edit_texts
from encoders.files import read_table
from encoders.media.sampling import SamplingConfig

_TRIPLET_COLUMNS = ["query_clip_id", "edit_text", "target_clip_ids"]
_TARGETS_PER_QUERY = 3


def synthetic_probe(sampling: SamplingConfig, num_clips: int, *, with_queries: bool) -> Probe:
    """Synthetic clips and made-up edits: cosines and neighbours, no mAP."""
    texts = sample_edit_texts(num_clips) if with_queries else []
    return Probe(
        frames_NTHWC=synthetic_clips(sampling, num_clips, name="drift"),
        source="synthetic",
        queries=tuple(ProbeQuery(clip=n, edit_text=text) for n, text in enumerate(texts)),
    )


def read_probe(
    sampling: SamplingConfig,
    clips_path: Path,
    *,
    num_clips: int,
    triplets_path: Path | None = None,
    with_queries: bool = True,
) -> Probe:
    """Up to `num_clips` clips of a clips.parquet; those that triplets.parquet names go first.

    A clip that can't be decoded is left out, and so is a triplet without its query clip or without any target.
    """
    clips = {clip.clip_id: clip for clip in read_clips(clips_path)}
    triplets = _read_triplets(triplets_path) if triplets_path is not None else []
    chosen = _choose(list(clips), triplets, num_clips)
    position_by_id: dict[str, int] = {}
    frames = []
    for clip, frames_or_error in iter_clip_frames((clips[clip_id] for clip_id in chosen), sampling):
        if isinstance(frames_or_error, np.ndarray):
            position_by_id[clip.clip_id] = len(frames)
            frames.append(frames_or_error)
    if len(frames) < 2:
        raise ValueError(
            f"{clips_path}: {len(frames)} of {len(chosen)} chosen clips can be decoded; 2 are needed"
        )
    labels = tuple(clips[clip_id].label for clip_id in position_by_id)
    return Probe(
        frames_NTHWC=np.stack(frames),
        source=clips_path.name,
        labels=labels if any(label is not None for label in labels) else (),
        queries=_queries(triplets, position_by_id) if with_queries else (),
    )


def _queries(
    triplets: Sequence[tuple[str, str, list[str]]], position_by_id: dict[str, int]
) -> tuple[ProbeQuery, ...]:
    if not triplets:
        texts = sample_edit_texts(len(position_by_id))
        return tuple(ProbeQuery(clip=n, edit_text=text) for n, text in enumerate(texts))
    queries = []
    for clip_id, text, target_ids in triplets:
        targets = tuple(
            position_by_id[target_id] for target_id in target_ids if target_id in position_by_id
        )
        if clip_id in position_by_id and any(
            position != position_by_id[clip_id] for position in targets
        ):
            queries.append(
                ProbeQuery(clip=position_by_id[clip_id], edit_text=text, targets=targets)
            )
    return tuple(queries)


def _choose(
    clip_ids: Sequence[str], triplets: Sequence[tuple[str, str, list[str]]], num_clips: int
) -> list[str]:
    """Clips of triplets spread over the file, until the number is reached; then clips spread over the archive."""
    archive_ids = set(clip_ids)
    chosen: dict[str, None] = {}
    step = max(len(triplets) // num_clips, 1)
    for clip_id, _, target_ids in triplets[::step]:
        in_archive = [
            name for name in (clip_id, *target_ids[:_TARGETS_PER_QUERY]) if name in archive_ids
        ]
        if len(in_archive) > 1 and len(chosen | dict.fromkeys(in_archive)) <= num_clips:
            chosen |= dict.fromkeys(in_archive)
    spread = (
        [clip_ids[n * len(clip_ids) // num_clips] for n in range(num_clips)] if clip_ids else []
    )
    for clip_id in spread:
        if len(chosen) < num_clips:
            chosen[clip_id] = None
    return list(chosen)


def _read_triplets(path: Path) -> list[tuple[str, str, list[str]]]:
    rows = read_table(path, _TRIPLET_COLUMNS).to_pylist()
    return [tuple(row[name] for name in _TRIPLET_COLUMNS) for row in rows]
