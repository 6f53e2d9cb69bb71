"""What is in a folder of released data? Its triplets and clip vectors, brought once into the two tables that stage 2 reads.

A folder holds train, val and test annotations and embeddings in the released formats, or already `triplets.parquet` and
`vectors.parquet`. A clip that triplets name and that has no vector is an error, or with `skips_missing` a line of
`vectors.dead.parquet`; never silence.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import write_atomic
from training.annotations.triplet_table import Triplet, read_triplets

TRIPLETS = "triplets.parquet"
VECTORS = "vectors.parquet"
SUMMARY = "data.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFiles:
    """The two tables, and what they hold."""

    triplets_path: Path
    vectors_path: Path
    summary: dict[str, object]


def prepare_data(data_dir: Path, out_dir: Path, *, skips_missing: bool = False) -> DataFiles:
    """Convert what is not converted yet. ValueError names what a folder lacks, or the clips without a vector."""
    if not data_dir.is_dir():
        raise ValueError(f"{data_dir} is no folder; it must hold annotations and embeddings")
    vectors_path, triplets_path = out_dir / VECTORS, out_dir / TRIPLETS
    triplets, vector_ids = _convert(data_dir, out_dir)
    named = {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}
    missing = sorted(named - vector_ids)
    if missing and not skips_missing:
        raise ValueError(
            f"{data_dir}: {len(missing)} of {len(named)} clips that triplets name have no embedding, first: "
            f"{missing[:3]}; --skip-missing leaves their triplets out and lists them"
        )
    dead_path = vectors_path.with_name(f"{vectors_path.stem}.dead.parquet")
    _write_dead(dead_path, missing)
    summary: dict[str, object] = {
        "data": str(data_dir),
        "num_vectors": len(vector_ids),
        "num_clips_named": len(named),
        "num_clips_without_vector": len(missing),
        "num_triplets": {
            split or "none": sum(t.split == split for t in triplets)
            for split in sorted({t.split for t in triplets}, key=str)
        },
    }
    write_atomic(out_dir / SUMMARY, json.dumps(summary, indent=1))
    return DataFiles(triplets_path=triplets_path, vectors_path=vectors_path, summary=summary)


def _convert(data_dir: Path, out_dir: Path) -> tuple[list[Triplet], set[str]]:
    out_dir.mkdir(parents=True, exist_ok=True)
    if (data_dir / TRIPLETS).exists() and (data_dir / VECTORS).exists():
        triplets = read_triplets(data_dir / TRIPLETS)
        for name in (TRIPLETS, VECTORS):
            _copy(data_dir / name, out_dir / name)
    else:
        raise ValueError(f"{data_dir}: neither released files nor {TRIPLETS} and {VECTORS}")
    return triplets, _ids_of(out_dir / VECTORS)


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(source, temporary)
        temporary.replace(target)


def _ids_of(path: Path) -> set[str]:
    return set(pq.ParquetFile(path).read(columns=["clip_id"])["clip_id"].to_pylist())


def _write_dead(path: Path, clip_ids: Sequence[str]) -> None:
    if not clip_ids:
        path.unlink(missing_ok=True)
        return
    table = pa.table({"clip_id": list(clip_ids), "reason": ["no_embedding"] * len(clip_ids)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomic(path, sink.getvalue().to_pybytes())
