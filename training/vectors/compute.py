"""clips.parquet + bundle -> vectors.parquet: every clip's vector, through the same two stages as indexing.

Computed in parts: a rerun after an interruption computes what is missing. A clip that fails goes to `<name>.dead.parquet` with its reason.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from cluster.progress import progress_bar
from encoders.bundle.card import read_card
from encoders.clips import Clip, read_clips
from encoders.decoding.backends import DecodeBackendKind, decode_backend
from encoders.stages.embed_stage import EmbedStage
from training.configs import LaunchSettings
from training.vectors.outcomes import join_parts, parts_folder, read_fingerprints, write_part
from training.vectors.stage_runner import FlowPlan, clip_fingerprint, run_flow

_PART = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorsConfig:
    """Embed the clips of a table with a bundle: vectors for stage 2 and evaluation. Rerun the same command to resume."""

    clips: Path
    """clips.parquet."""
    bundle: Path
    """Folder of the bundle that embeds."""
    out: Path
    """vectors.parquet, written here."""
    backend: Literal["torch", "onnx"] = "torch"
    decode_backend: DecodeBackendKind = "pyav"
    """What decodes the clips."""
    device: str = "cpu"
    splits: tuple[str, ...] = ()
    """Only these splits; none = all clips."""
    launch: LaunchSettings = field(default_factory=LaunchSettings)

    def __post_init__(self) -> None:
        decode_backend(self.decode_backend)


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorsSummary:
    """What a run made."""

    num_clips: int
    num_vectors: int
    num_dead: int
    num_computed: int
    """In this run; the others were there already."""


def compute_vectors(config: VectorsConfig, clips: Sequence[Clip] | None = None) -> VectorsSummary:
    """Idempotent: what the file or its parts hold already is not computed again. Ray must be connected for num_workers > 0."""
    card = read_card(config.bundle)
    if clips is None:
        clips = read_clips(config.clips)
    if config.splits:
        clips = [clip for clip in clips if clip.split in config.splits]
    if not clips:
        raise ValueError(f"{config.clips}: no clips to embed (splits: {config.splits or 'all'})")
    key = f"{card.encoder_id} {config.backend}"
    wanted = {clip.clip_id: clip_fingerprint(clip) for clip in clips}
    limits = str(config.launch.limits.unusual())
    held = read_fingerprints(config.out, key, limits=limits)
    if held == wanted:
        num_vectors = pq.ParquetFile(config.out).metadata.num_rows
        num_dead, num_computed = len(wanted) - num_vectors, 0
    else:
        for path in sorted(parts_folder(config.out).glob("*.parquet")):
            held |= read_fingerprints(path, key, limits=limits)
        missing = [clip for clip in clips if held.get(clip.clip_id) != wanted[clip.clip_id]]
        _compute_parts(missing, config, key, wanted)
        num_vectors, num_dead = join_parts(config.out, key, wanted, limits=limits)
        num_computed = len(missing)
    return VectorsSummary(
        num_clips=len(wanted),
        num_vectors=num_vectors,
        num_dead=num_dead,
        num_computed=num_computed,
    )


def _compute_parts(
    clips: Sequence[Clip], config: VectorsConfig, key: str, fingerprint_by_id: dict[str, str]
) -> None:
    if not clips:
        return
    folder, limits = parts_folder(config.out), str(config.launch.limits.unusual())
    sampling = read_card(config.bundle).sampling
    plan = FlowPlan(
        decode_arguments={
            "sampling": sampling,
            "backend": config.decode_backend,
            "device": decode_backend(config.decode_backend).device_kind_for(config.device),
            "limits": config.launch.limits,
        },
        stage=EmbedStage,
        stage_arguments={
            "bundle_dir": str(config.bundle.resolve()),
            "backend": config.backend,
            "device": config.device,
            "num_threads": 1 if config.launch.num_workers else os.cpu_count() or 1,
        },
        num_workers=config.launch.num_workers,
        use_gpu=config.device != "cpu",
    )
    waiting: list[dict[str, Any]] = []
    with progress_bar("clip vectors", len(clips), shown=config.launch.show_progress) as update:
        for done, row in enumerate(run_flow(clips, plan), 1):
            waiting.append(row)
            update(done, "")
            if len(waiting) == _PART:
                write_part(folder, key, waiting, fingerprint_by_id, limits=limits)
                waiting = []
    if waiting:
        write_part(folder, key, waiting, fingerprint_by_id, limits=limits)
