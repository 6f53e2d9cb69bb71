"""Triplets and triplets.parquet: the table of composed queries with their targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from encoders.files import read_table
from training.vectors.tables import write_table

TRIPLETS_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("query_clip_id", pa.string(), nullable=False),
        pa.field("edit_text", pa.string(), nullable=False),
        pa.field("target_clip_ids", pa.list_(pa.string()), nullable=False),
        pa.field("source_label", pa.string()),
        pa.field("target_label", pa.string()),
        pa.field("split", pa.string()),
    ]
)
_REQUIRED_COLUMNS = ("query_id", "query_clip_id", "edit_text", "target_clip_ids")


@dataclass(frozen=True, kw_only=True, slots=True)
class Triplet:
    """A query clip, an edit text, and all target clips."""

    query_id: str
    query_clip_id: str
    edit_text: str
    target_clip_ids: tuple[str, ...]
    """The valid targets; a released list may name one twice, which only the protocol `tfcovr-release` counts."""
    source_label: str | None = None
    target_label: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        for name in ("query_id", "query_clip_id", "edit_text"):
            if not getattr(self, name):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a non-empty text")
        targets = self.target_clip_ids
        if not targets or not all(targets):
            raise ValueError(f"target_clip_ids is {list(targets)!r}; it must hold clip ids")
        if self.query_clip_id in targets:
            raise ValueError(
                f"target_clip_ids holds the query clip {self.query_clip_id!r}; a query must not be its own target"
            )


def read_triplets(path: str | Path) -> list[Triplet]:
    """Triplets in file order. ValueError names file, row, column and value."""
    path = Path(path)
    table = _checked_table(path)
    triplets: list[Triplet] = []
    row_by_query_id: dict[str, int] = {}
    columns = [table[name].to_pylist() for name in TRIPLETS_SCHEMA.names]
    for row, values in enumerate(zip(*columns, strict=True)):
        cells = dict(zip(TRIPLETS_SCHEMA.names, values, strict=True))
        cells["target_clip_ids"] = tuple(cells["target_clip_ids"] or ())
        try:
            triplet = Triplet(**cells)
        except ValueError as error:
            raise ValueError(f"{path}: row {row}: {error}") from error
        first = row_by_query_id.setdefault(triplet.query_id, row)
        if first != row:
            raise ValueError(
                f"{path}: row {row}: query_id is {triplet.query_id!r}, as in row {first}; it must be unique"
            )
        triplets.append(triplet)
    return triplets


def write_triplets(path: str | Path, triplets: Sequence[Triplet]) -> None:
    """Write all triplets or nothing: a reader never sees a truncated file."""
    path = Path(path)
    if len({triplet.query_id for triplet in triplets}) != len(triplets):
        raise ValueError(f"{path}: some query_ids occur twice; they must be unique")
    columns = [
        pa.array([getattr(triplet, column.name) for triplet in triplets], type=column.type)
        for column in TRIPLETS_SCHEMA
    ]
    write_table(path, pa.table(columns, schema=TRIPLETS_SCHEMA))


def _checked_table(path: Path) -> pa.Table:
    """The table with exactly the columns of TRIPLETS_SCHEMA; missing labels and splits become null."""
    table = read_table(path)
    missing = [name for name in _REQUIRED_COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; found {table.column_names}")
    columns: list[Any] = []
    for expected in TRIPLETS_SCHEMA:
        if expected.name not in table.column_names:
            columns.append(pa.nulls(len(table), expected.type))
            continue
        column = table[expected.name]
        try:
            columns.append(column.cast(expected.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"{path}: column {expected.name!r} has type {column.type}; it must be {expected.type} ({error})"
            ) from error
    return pa.table(columns, names=TRIPLETS_SCHEMA.names)
