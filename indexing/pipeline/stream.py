"""The Ray of a run, and pending clips that stream through its stages: the outcomes of each result batch."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.dataflow import run_tasks, stream_dataflow
from cluster.ray_session import RaySession, count_machines, ray_session, session_with
from cluster.storage import require_shared
from cluster.telemetry import RayMetrics
from encoders.stages.base import error_of
from indexing.ledger.ledger import Outcome, outcomes_of_batch
from indexing.ledger.progress import RunProgress
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.shards import Work
from indexing.pipeline.stages import VectorOptions, vector_stages, write_stage
from indexing.pipeline.workers import Workers, worker_bundle
from indexing.sources.content import Content, read_local_files
from indexing.store.bulk_import import BulkImport, rows_per_part
from indexing.store.collection import ClipCollection
from indexing.store.rows import row_of_batch

_RESULT_BATCH = 32
_PART_S = 60.0
_FILES_A_TASK = 32


def open_session(stack: ExitStack, config: IndexConfig, progress: RunProgress) -> RaySession:
    """A connected Ray that has room for the least work, until the stack is closed. ValueError for storage that its nodes do not share."""
    session = stack.enter_context(ray_session())
    export = RayMetrics(progress).export
    stack.enter_context(progress.attached(count_nodes=count_machines, export=export))
    for uri, what, needed in (
        (config.milvus_uri, "the Milvus URI", "http://HOST:19530"),
        (config.run_dir, "the run folder", "a folder on NFS, /mnt/SHARED/RUN"),
    ):
        # The nodes that come are not this one.
        num_nodes = session.num_nodes + session.can_grow
        require_shared(uri, num_nodes=num_nodes, what=what, needed=needed)
    # What one worker needs: the node that comes tells what the others will have.
    return session_with(session, [worker_bundle(config.workers)])


def read_on_workers(uris: Sequence[str]) -> Iterator[tuple[str, Content]]:
    """Contents of local files by the nodes of the connected Ray, which all see them: a head may have no CPUs for it."""
    groups = [uris[i : i + _FILES_A_TASK] for i in range(0, len(uris), _FILES_A_TASK)]
    for contents in run_tasks(_read_group, groups):
        yield from contents


def _read_group(uris: Sequence[str]) -> list[tuple[str, Content]]:
    return list(read_local_files(uris, num_threads=1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What one pass needs beside its clips."""

    options: VectorOptions
    workers: Workers
    collection: ClipCollection
    run_dir: Path
    bulk_import: str
    """See IndexConfig."""

    def stream(self, work: Work) -> Iterator[tuple[dict[str, np.ndarray], list[Outcome]]]:
        """Batches of rows with their outcomes, which are in Milvus by then."""
        write = write_stage(
            self.options,
            self.workers,
            work,
            arguments={
                "address": self.collection.address,
                "collection": self.collection.name,
                "is_bulk": bool(self.bulk_import),
            },
        )
        stages = [*vector_stages(self.options, self.workers, work), write]
        batches = stream_dataflow(work.blocks, stages, result_batch_size=_RESULT_BATCH)
        if self.bulk_import:
            batches = self._imported(batches)
        for batch in batches:
            yield batch, outcomes_of_batch(batch)

    def _imported(
        self, batches: Iterator[dict[str, np.ndarray]]
    ) -> Iterator[dict[str, np.ndarray]]:
        """The same batches, each after its rows were imported: as many at once as a part holds, or a minute makes."""
        num_rows = rows_per_part(self.options.card.embedding_dim)
        with closing(BulkImport(self.collection, self.run_dir)) as importer:
            held: list[dict[str, np.ndarray]] = []
            rows: list[dict[str, Any]] = []
            since_s = time.monotonic()
            for batch in batches:
                rows += [
                    row_of_batch(batch, i)
                    for i, error in enumerate(batch["error"])
                    if error_of(error) is None
                ]
                del batch["embedding"], batch["labels"]
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
        importer.load(rows, self.bulk_import)
        busy_s = (time.perf_counter() - started) / len(rows)
        for batch in held:
            batch["write_busy_s"] = batch["write_busy_s"] + busy_s
