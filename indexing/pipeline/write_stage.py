"""The write stage, last of the dataflow: vectors into Milvus, and rows brought up to date with their clips' labels."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from encoders.stages.base import error_of
from indexing.ledger.planned_clip import PlannedClip
from indexing.store.collection import ClipCollection
from indexing.store.rows import (
    clip_key,
    clip_of_batch,
    collection_row,
    is_row_of,
    row_digest,
    row_of_batch,
)
from indexing.store.schema import ROW_FIELDS, lengthened

_REFRESH_PAGE = 512


def refresh_rows(
    collection: ClipCollection, planned: Iterable[PlannedClip]
) -> Iterator[list[PlannedClip]]:
    """Bring label, split, attributes and file name of rows up to date; their vectors stay. Gives those that are, page by page."""
    for page, differing in differing_rows(collection, planned):
        part = {planned_clip.clip_key: planned_clip for planned_clip in differing}
        if part:
            collection.upsert(
                [
                    collection_row(
                        part[row["clip_key"]].clip,
                        key=row["clip_key"],
                        embedding_D=lengthened(row["embedding"], row.get("vector_length", 1.0)),
                        backend=row["backend"],
                        precision=row["precision"],
                    )
                    for row in collection.rows_of_keys(list(part))
                ]
            )
        yield page


def differing_rows(
    collection: ClipCollection, planned: Iterable[PlannedClip]
) -> Iterator[tuple[list[PlannedClip], list[PlannedClip]]]:
    """Page by page: the clips, and those of them whose row holds another label, split, attributes, file name or span."""
    planned = iter(planned)
    while page := list(islice(planned, _REFRESH_PAGE)):
        part = {planned_clip.clip_key: planned_clip for planned_clip in page}
        rows = collection.rows_of_keys(list(part), ROW_FIELDS)
        yield (
            page,
            [
                part[row["clip_key"]]
                for row in rows
                if not is_row_of(row, part[row["clip_key"]].clip)
            ],
        )


class WriteStage:
    """Upserts the rows of a batch that have no error; takes `embedding` away, adds `clip_key` and `write_busy_s`.

    What Milvus stores beside a vector comes with each row; the row's digest goes on in its place (`row_digest`). `collection` is its own
    name, no alias: that may be another collection's before the run ends. `is_bulk`: the caller imports the rows, so `embedding` and
    `labels` stay.
    """

    def __init__(
        self,
        *,
        address: str,
        collection: str,
        encoder_id: str,
        is_bulk: bool = False,
    ) -> None:
        self._collection = ClipCollection(address, collection)
        self._encoder_id = encoder_id
        self._is_bulk = is_bulk

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        keys = [
            clip_key(self._encoder_id, str(clip_id), str(content_hash), **span)
            for clip_id, content_hash, span in zip(
                batch["clip_id"], batch["content_hash"], batch["span"], strict=True
            )
        ]
        batch["clip_key"] = np.array(keys, dtype=object)
        digests = [row_digest(clip_of_batch(batch, i)) for i in range(len(keys))]
        batch["row_digest"] = np.array(digests, dtype=object)
        if not self._is_bulk:
            self._collection.upsert(
                [
                    row_of_batch(batch, i)
                    for i, error in enumerate(batch["error"])
                    if error_of(error) is None
                ]
            )
            del batch["embedding"], batch["labels"]
        busy_s = (time.perf_counter() - started) / max(len(keys), 1)
        batch["write_busy_s"] = np.full(len(keys), busy_s)
        return batch
