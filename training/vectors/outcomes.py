"""Outcomes of `tfcovr vectors`: the parts of a run and the table that they are joined into.

Fingerprints and reasons are columns, so that no footer grows with the number of clips: Parquet readers refuse a footer of more than
about 100 MB. Tables of earlier versions, which held them in the footer, are read too.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import atomic_path
from encoders.media.container import MediaLimits
from encoders.stages.base import DEAD_LETTER_COLUMNS, DeadLetter, split_rows
from training.vectors.tables import (
    list_column,
    read_dead_rows,
    vectors_of_column,
    write_dead_letters,
    write_table,
)

logger = logging.getLogger(__name__)
_META = b"tfcovr"
_PARQUET = b"PAR1"
_NEEDED = ("clip_id", "embedding", "fingerprint")
USUAL = str(MediaLimits().unusual())
"""The usual limits, as files name them."""
_ROWS_PER_GROUP = 65_536
# Footers of earlier versions may be larger than pyarrow reads by default.
_LARGEST_FOOTER = 2**31 - 1
_VECTORS_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("length", pa.float32()),
        ("fingerprint", pa.string()),
    ]
)
_PART_SCHEMA = pa.schema(
    [*_VECTORS_SCHEMA, *((name, pa.string()) for name in DEAD_LETTER_COLUMNS[1:])]
)


@dataclass(kw_only=True, slots=True)
class Outcomes:
    """The outcomes that one file holds: vectors, and the clips that got none."""

    fingerprint_by_id: Mapping[str, str]
    clip_ids: Sequence[str] = ()
    """Of the vectors, in their order."""
    vectors_ND: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    length_N: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """The lengths that the vectors had before; NaN where an earlier version wrote none."""
    dead: Sequence[DeadLetter] = ()
    limits: str = USUAL
    """Under which the dead ones were last tried."""


def parts_folder(out: Path) -> Path:
    """Where the parts of a table lie until they are joined."""
    return out.with_name(f".{out.name}.parts")


def write_part(
    folder: Path,
    key: str,
    rows: Sequence[dict[str, Any]],
    fingerprint_by_id: Mapping[str, str],
    *,
    limits: str = USUAL,
) -> None:
    """Write the rows of a flow as one part."""
    embedded, letters = split_rows(rows)
    columns: dict[str, list[Any]] = {name: [] for name in _PART_SCHEMA.names}
    for row in embedded:
        vector = np.asarray(row["embedding"], np.float32).tolist()
        _append(columns, str(row["clip_id"]), vector, {"length": row.get("vector_length")})
    for letter in letters:
        _append(columns, letter.clip_id, None, letter.to_columns())
    columns["fingerprint"] = [fingerprint_by_id[clip_id] for clip_id in columns["clip_id"]]
    table = pa.table(columns, schema=_PART_SCHEMA.with_metadata(_metadata(key, limits)))
    write_table(folder / f"{uuid4().hex}.parquet", table)


def _append(
    columns: dict[str, list[Any]],
    clip_id: str,
    vector: list[float] | None,
    others: Mapping[str, Any],
) -> None:
    columns["clip_id"].append(clip_id)
    columns["embedding"].append(vector)
    for name in ("length", *DEAD_LETTER_COLUMNS[1:]):
        columns[name].append(others.get(name))


def read_fingerprints(path: Path, key: str, *, limits: str = USUAL) -> dict[str, str]:
    """Clip id -> fingerprint of every clip that a part, or the joined table with its dead letters, has the outcome of.

    What a limit refused is left out where these limits are others.
    """
    outcomes = _read(path, key, with_vectors=False)
    if outcomes is None:
        return {}
    if outcomes.limits == limits:
        return dict(outcomes.fingerprint_by_id)
    refused = {letter.clip_id for letter in outcomes.dead if letter.error.is_by_limit}
    return {c: p for c, p in outcomes.fingerprint_by_id.items() if c not in refused}


def join_parts(
    out: Path, key: str, wanted: Mapping[str, str], *, limits: str = USUAL
) -> tuple[int, int]:
    """Join the parts, and what `out` held before, into `out`; returns the number of vectors and of dead clips.

    `wanted` is the fingerprint of each clip of the table. The parts are removed once the table was read back and equals what was
    to be written. Memory holds the vectors once.
    """
    clip_ids = sorted(wanted)
    row_by_id = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    vectors_ND = np.zeros((0, 0), np.float32)
    length_N = np.full(len(clip_ids), np.nan, np.float32)
    is_embedded_N = np.zeros(len(clip_ids), bool)
    dead: dict[str, DeadLetter] = {}
    unread = []
    for path in (out, *sorted(parts_folder(out).glob("*.parquet"))):
        outcomes = _read(path, key, with_vectors=True)
        if outcomes is None:
            unread.append(path)
            continue
        fresh = {c for c, print_ in outcomes.fingerprint_by_id.items() if wanted.get(c) == print_}
        if len(outcomes.clip_ids) and not vectors_ND.size:
            vectors_ND = np.zeros((len(clip_ids), outcomes.vectors_ND.shape[1]), np.float32)
        pairs = [(row_by_id[c], i) for i, c in enumerate(outcomes.clip_ids) if c in fresh]
        if pairs:
            rows, sources = np.array(pairs).T
            vectors_ND[rows] = outcomes.vectors_ND[sources]
            length_N[rows] = outcomes.length_N[sources]
            is_embedded_N[rows] = True
        dead |= {letter.clip_id: letter for letter in outcomes.dead if letter.clip_id in fresh}
    letters = [letter for clip_id, letter in dead.items() if not is_embedded_N[row_by_id[clip_id]]]
    num_known = int(is_embedded_N.sum()) + len(letters)
    if num_known < len(wanted):  # a file's vectors alone are damaged
        for path in filter(Path.exists, unread):
            path.replace(path.with_suffix(".damaged"))
        raise ValueError(
            f"{', '.join(map(str, unread))}: damaged, and moved aside; run the same command again, which computes its clips"
        )
    if not is_embedded_N.any():
        first = letters[0]
        raise ValueError(
            f"none of {len(wanted)} clips can be embedded; {first.clip_id}: {first.error.reason}, {first.error.detail}"
        )
    if not is_embedded_N.all():
        clip_ids = [clip_ids[row] for row in np.flatnonzero(is_embedded_N)]
        vectors_ND, length_N = vectors_ND[is_embedded_N], length_N[is_embedded_N]
    write_dead_letters(out, letters, fingerprint_by_id=wanted)
    columns = Outcomes(
        fingerprint_by_id=wanted,
        clip_ids=clip_ids,
        vectors_ND=vectors_ND,
        length_N=length_N,
        limits=limits,
    )
    _write_vectors(out, key, columns)
    shutil.rmtree(parts_folder(out), ignore_errors=True)
    return len(clip_ids), len(letters)


def _write_vectors(out: Path, key: str, outcomes: Outcomes) -> None:
    """In row groups; OSError, with the old file and all parts in place, unless the new file reads back as it was written."""

    def tables() -> Iterator[pa.Table]:
        for first in range(0, len(outcomes.clip_ids), _ROWS_PER_GROUP):
            part = slice(first, first + _ROWS_PER_GROUP)
            ids = outcomes.clip_ids[part]
            lengths = pa.array(outcomes.length_N[part], pa.float32(), from_pandas=True)
            prints = [outcomes.fingerprint_by_id[clip_id] for clip_id in ids]
            yield pa.table(
                [
                    pa.array(ids, pa.string()),
                    list_column(outcomes.vectors_ND[part]),
                    lengths,
                    pa.array(prints, pa.string()),
                ],
                schema=_VECTORS_SCHEMA,
            )

    with atomic_path(out) as temporary:
        schema = _VECTORS_SCHEMA.with_metadata(_metadata(key, outcomes.limits))
        with pq.ParquetWriter(temporary, schema) as writer:
            for table in tables():
                writer.write_table(table.replace_schema_metadata(schema.metadata))
        with pq.ParquetFile(temporary) as file:  # with the limits that every reader has
            is_same = file.num_row_groups == -(-len(outcomes.clip_ids) // _ROWS_PER_GROUP) and all(
                file.read_row_group(number).equals(table) for number, table in enumerate(tables())
            )
        if not is_same:
            raise OSError(
                f"{out} did not read back as it was written; the disk or its file system may be faulty"
            )


def _read(path: Path, key: str, *, with_vectors: bool) -> Outcomes | None:
    """None for a file that does not exist, is damaged, or holds the vectors of another encoder or backend; ValueError for what is no
    table of vectors, and would be replaced."""
    if not path.exists():
        return None
    try:
        return _read_table(path, key, with_vectors=with_vectors)
    except (pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not pyarrow's
            raise
        _require_ours(path)
        logger.warning("%s is damaged (%s); its clips are computed again", path, error)
        return None


def _require_ours(path: Path) -> None:
    """ValueError for a file with other content than Parquet, or a Parquet table that is not one of vectors."""
    with path.open("rb") as file:
        head = file.read(len(_PARQUET))
    is_ours = not head.strip(b"\0") or head == _PARQUET
    with suppress(pa.ArrowException, ValueError, OSError), pq.ParquetFile(path) as file:
        is_ours = _META in (file.schema_arrow.metadata or {})
    if not is_ours:
        raise ValueError(f"{path} is not a table that `tfcovr vectors` wrote; name another file, or delete it")  # fmt: skip


def _read_table(path: Path, key: str, *, with_vectors: bool) -> Outcomes | None:
    with pq.ParquetFile(
        path,
        thrift_string_size_limit=_LARGEST_FOOTER,
        thrift_container_size_limit=_LARGEST_FOOTER,
    ) as file:
        meta = json.loads((file.schema_arrow.metadata or {})[_META])
        if meta.get("key") != key:
            return None
        if "clips" in meta:
            return _read_old(file, meta, path, with_vectors=with_vectors)
        names = file.schema_arrow.names
        if lacking := [name for name in _NEEDED if name not in names]:
            raise ValueError(f"it lacks the column {lacking[0]}")
        names = [name for name in names if with_vectors or name != "embedding"]
        table = file.read(columns=names)
    clip_ids, prints = table["clip_id"].to_pylist(), table["fingerprint"].to_pylist()
    letter_rows, fingerprint_by_id = [], dict(zip(clip_ids, prints, strict=True))
    if "reason" in names:  # a part; the joined table has its dead letters beside it
        table_of_dead = table.filter(table["reason"].is_valid())
        letter_rows = table_of_dead.select(DEAD_LETTER_COLUMNS).to_pylist()
        table = table.filter(table["reason"].is_null())
    else:
        letter_rows = read_dead_rows(path)
        fingerprint_by_id |= {row["clip_id"]: row["fingerprint"] for row in letter_rows}
    outcomes = _outcomes(table, fingerprint_by_id, letter_rows)
    outcomes.limits = meta.get("limits", USUAL)
    return outcomes


def _read_old(
    file: pq.ParquetFile, meta: dict[str, Any], path: Path, *, with_vectors: bool
) -> Outcomes:
    """Earlier versions kept the fingerprints of all clips, and the dead letters of a part, in the footer."""
    table = file.read(columns=["clip_id", "embedding"] if with_vectors else ["clip_id"])
    return _outcomes(table, meta["clips"], meta.get("dead") or read_dead_rows(path))


def _outcomes(
    table: pa.Table, fingerprint_by_id: Mapping[str, str], letter_rows: Sequence[dict[str, Any]]
) -> Outcomes:
    outcomes = Outcomes(
        fingerprint_by_id=fingerprint_by_id,
        clip_ids=table["clip_id"].to_pylist(),
        dead=[DeadLetter.from_columns(row) for row in letter_rows],
    )
    if "embedding" in table.column_names:
        outcomes.vectors_ND = vectors_of_column(table["embedding"])
        outcomes.length_N = np.full(len(table), np.nan, np.float32)
        if "length" in table.column_names:
            lengths = table["length"].to_pylist()
            outcomes.length_N = np.array([np.nan if v is None else v for v in lengths], np.float32)
    return outcomes


def _metadata(key: str, limits: str) -> dict[bytes, bytes]:
    return {_META: json.dumps({"key": key, "limits": limits}).encode()}
