"""clips.parquet + bundle -> vectors.parquet: every clip's vector, through the same two stages as indexing.

Computed in parts, so that a killed run goes on. A clip that fails goes to `<name>.dead.parquet` with its reason.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.progress import progress_bar
from encoders.bundle.card import read_card
from encoders.clips import Clip, read_clips
from encoders.stages.base import DeadLetter, split_rows
from encoders.stages.embed_stage import EmbedStage
from training.configs import LaunchSettings
from training.vectors.stage_runner import FlowPlan, clip_fingerprint, run_flow
from training.vectors.tables import write_dead_letters, write_table

_PART = 256
_META = b"tfcovr"


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
    decode_backend: Literal["pyav", "dali"] = "pyav"
    device: str = "cpu"
    splits: tuple[str, ...] = ()
    """Only these splits; none = all clips."""
    launch: LaunchSettings = field(default_factory=LaunchSettings)


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
    if _held(config.out, key) == wanted:
        table = pq.ParquetFile(config.out)
        num_vectors = table.metadata.num_rows
        return VectorsSummary(
            num_clips=len(wanted),
            num_vectors=num_vectors,
            num_dead=len(wanted) - num_vectors,
            num_computed=0,
        )
    folder = config.out.with_name(f".{config.out.name}.parts")
    held: dict[str, str] = {}
    for path in sorted(folder.glob("*.parquet")):
        held |= _held(path, key)
    missing = [clip for clip in clips if held.get(clip.clip_id) != wanted[clip.clip_id]]
    _compute_parts(missing, config, folder, key)
    return _join_parts(config.out, folder, key, wanted, num_computed=len(missing))


def _compute_parts(clips: Sequence[Clip], config: VectorsConfig, folder: Path, key: str) -> None:
    if not clips:
        return
    sampling = read_card(config.bundle).sampling
    plan = FlowPlan(
        decode_arguments={
            "sampling": sampling,
            "backend": config.decode_backend,
            "device": "cuda"
            if config.decode_backend == "dali" and config.device != "cpu"
            else "cpu",
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
    prints = {clip.clip_id: clip_fingerprint(clip) for clip in clips}
    waiting: list[dict[str, Any]] = []
    with progress_bar("clip vectors", len(clips), shown=config.launch.show_progress) as update:
        for done, row in enumerate(run_flow(clips, plan), 1):
            waiting.append(row)
            update(done, "")
            if len(waiting) == _PART:
                _write_part(folder, key, waiting, prints)
                waiting = []
    if waiting:
        _write_part(folder, key, waiting, prints)


def _write_part(
    folder: Path, key: str, rows: Sequence[dict[str, Any]], prints: dict[str, str]
) -> None:
    embedded, letters = split_rows(rows)
    table = pa.table(
        {
            "clip_id": pa.array([str(row["clip_id"]) for row in embedded], pa.string()),
            "embedding": pa.array(
                [np.asarray(row["embedding"], np.float32).tolist() for row in embedded],
                pa.list_(pa.float32()),
            ),
        }
    )
    meta = {
        "key": key,
        "clips": {str(row["clip_id"]): prints[str(row["clip_id"])] for row in rows},
        "dead": [letter.to_columns() for letter in letters],
    }
    _write_table(folder / f"{uuid4().hex}.parquet", table, meta)


def _join_parts(
    out: Path, folder: Path, key: str, wanted: dict[str, str], *, num_computed: int
) -> VectorsSummary:
    vector_by_id: dict[str, Any] = {}
    dead: dict[str, DeadLetter] = {}
    for path in sorted(folder.glob("*.parquet")):
        table, meta = _read_table(path)
        if meta.get("key") != key:
            continue
        fresh = {c for c, fingerprint in meta["clips"].items() if wanted.get(c) == fingerprint}
        vectors = zip(table["clip_id"].to_pylist(), table["embedding"].to_pylist(), strict=True)
        vector_by_id |= {clip_id: vector for clip_id, vector in vectors if clip_id in fresh}
        letters = (DeadLetter.from_columns(values) for values in meta["dead"])
        dead |= {letter.clip_id: letter for letter in letters if letter.clip_id in fresh}
    if not vector_by_id:
        first = next(iter(dead.values()))
        raise ValueError(
            f"none of {len(wanted)} clips can be embedded; {first.clip_id}: {first.error.reason}, {first.error.detail}"
        )
    ids = sorted(vector_by_id)
    joined = pa.table(
        {
            "clip_id": pa.array(ids, pa.string()),
            "embedding": pa.array([vector_by_id[i] for i in ids], pa.list_(pa.float32())),
        }
    )
    write_dead_letters(out, list(dead.values()))
    _write_table(out, joined, {"key": key, "clips": wanted})
    shutil.rmtree(folder)
    return VectorsSummary(
        num_clips=len(wanted), num_vectors=len(ids), num_dead=len(dead), num_computed=num_computed
    )


def _held(path: Path, key: str) -> dict[str, str]:
    """clip id -> fingerprint of the clips that a file has the outcome of."""
    if not path.exists():
        return {}
    meta = json.loads((pq.ParquetFile(path).schema_arrow.metadata or {}).get(_META, b"{}"))
    return meta["clips"] if meta.get("key") == key else {}


def _read_table(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    table = pq.ParquetFile(path).read()
    return table, json.loads((table.schema.metadata or {}).get(_META, b"{}"))


def _write_table(path: Path, table: pa.Table, meta: dict[str, Any]) -> None:
    write_table(path, table.replace_schema_metadata({_META: json.dumps(meta).encode()}))
