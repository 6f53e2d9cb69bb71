"""One pass of pending clips through the stages, canaries among them, with what comes out told batch by batch."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.dataflow import stream_dataflow
from encoders.bundle.canaries import is_canary, read_canaries
from encoders.bundle.card import BundleCard
from encoders.clips import Clip, write_clips
from encoders.stages.base import error_of
from indexing.ledger.ledger import Outcome
from indexing.ledger.outcomes import outcomes_of_batch
from indexing.ledger.planned_clip import PlannedClip
from indexing.pipeline.canary_rows import (
    RowMixUpError,
    add_canaries,
    canary_collection_name,
    check_stored_canaries,
)
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.shards import make_shards
from indexing.pipeline.stages import index_stages
from indexing.pipeline.workers import Workers
from indexing.pipeline.write_stage import WriteTarget
from indexing.store.bulk_import import BulkImport, rows_per_part
from indexing.store.collection import ClipCollection
from indexing.store.rows import row_of_batch

_PENDING = "pending.parquet"
_RESULT_BATCH = 32
_PART_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What one pass needs beside its clips."""

    config: IndexConfig
    card: BundleCard
    workers: Workers
    collection: ClipCollection
    fetch_uris: Mapping[str, str]

    def stream(
        self, pending: Sequence[PlannedClip]
    ) -> Iterator[tuple[dict[str, np.ndarray], list[Outcome]]]:
        """Batches of the archive's own rows with their outcomes, which are in Milvus by then.

        RowMixUpError after the last one when a canary did not come back as itself; the rows of this pass are deleted then.
        """
        clip_by_id = {one.clip.clip_id: one.clip for one in pending}
        clips_path = self.config.run_dir / _PENDING
        write_clips(clips_path, list(clip_by_id.values()))
        _frames, canaries_ND = read_canaries(self.config.bundle)
        shards = make_shards(pending, self.fetch_uris, num_workers=self.workers.num_decode)
        shards, num_copies = add_canaries(shards, len(pending))
        canaries = self._open_canaries()
        stages = index_stages(
            self.config,
            self.card,
            self.workers,
            shards=shards,
            write_arguments={
                "target": WriteTarget(
                    address=self.collection.address,
                    collection=self.collection.name,
                    canary_collection=canaries.name,
                ),
                "clips_path": str(clips_path.resolve()),
                "canaries_ND": canaries_ND,
                "is_bulk": bool(self.config.bulk_import),
            },
        )
        try:
            batches = filter(
                lambda batch: len(batch["clip_id"]),
                map(
                    _without_canaries,
                    stream_dataflow(shards, stages, result_batch_size=_RESULT_BATCH),
                ),
            )
            if self.config.bulk_import:
                batches = self._imported(batches, clip_by_id)
            for batch in batches:
                yield batch, outcomes_of_batch(batch, clip_by_id)
            for one in (canaries, self.collection):  # a server that restarted has let go of them
                one.check(encoder_id=self.card.encoder_id)
            check_stored_canaries(canaries, canaries_ND, num_copies)
        except RowMixUpError:
            # All of them: a writer may have stored rows that have not come back yet.
            self.collection.delete([one.clip_key for one in pending])
            raise
        finally:
            canaries.close()
        self._drop_canaries()
        clips_path.unlink()

    def _imported(
        self, batches: Iterator[dict[str, np.ndarray]], clip_by_id: Mapping[str, Clip]
    ) -> Iterator[dict[str, np.ndarray]]:
        """The same batches, each after its rows were imported: as many at once as a part holds, or a minute makes."""
        num_rows = rows_per_part(self.card.embedding_dim)
        with closing(BulkImport(self.collection, self.config.run_dir)) as importer:
            held: list[dict[str, np.ndarray]] = []
            rows: list[dict[str, Any]] = []
            since_s = time.monotonic()
            for batch in batches:
                rows += [
                    row_of_batch(batch, i, clip_by_id[str(clip_id)])
                    for i, clip_id in enumerate(batch["clip_id"])
                    if error_of(batch["error"][i]) is None
                ]
                del batch["embedding"]
                held.append(batch)
                if len(rows) >= num_rows or time.monotonic() > since_s + _PART_S:
                    self._load(importer, rows, held)
                    yield from held
                    held, rows, since_s = [], [], time.monotonic()
            self._load(importer, rows, held)
            yield from held

    def _load(
        self,
        importer: BulkImport,
        rows: Sequence[dict[str, Any]],
        held: Sequence[dict[str, np.ndarray]],
    ) -> None:
        """Import the rows; the time counts as theirs."""
        if not rows:
            return
        started = time.perf_counter()
        importer.load(rows, self.config.bulk_import)
        busy_s = (time.perf_counter() - started) / len(rows)
        for batch in held:
            batch["write_busy_s"] = batch["write_busy_s"] + busy_s

    def _open_canaries(self) -> ClipCollection:
        """An empty collection, whatever a killed run left in it."""
        self._drop_canaries()
        canaries = ClipCollection(self.collection.address, self._canaries_name())
        canaries.create_or_check(
            encoder_id=self.card.encoder_id,
            embedding_dim=self.card.embedding_dim,
            vector_dtype=self.config.vector_dtype,
        )
        return canaries

    def _canaries_name(self) -> str:
        return canary_collection_name(self.collection.name, self.config.run_dir)

    def _drop_canaries(self) -> None:
        collection = ClipCollection(self.collection.address, self._canaries_name())
        try:
            collection.drop()
        finally:
            collection.close()


def _without_canaries(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    is_own = np.array([not is_canary(str(clip_id)) for clip_id in batch["clip_id"]], bool)
    return {name: column[is_own] for name, column in batch.items()}
