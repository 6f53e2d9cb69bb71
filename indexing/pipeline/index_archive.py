"""Indexes an archive into Milvus: plan, decode, embed, write, ledger; resumable after any interruption.

A row is in Milvus before its ledger line is written, and an old row goes only after the new one is in. A run ends with a sample of
its clips computed again; the ledger lists the clips of a run whose vectors have not been compared yet. Clips, rows and outcomes are
tables on disk: the driver's memory does not grow with the archive.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any

from rich.console import Console

from cluster.processes import own_run_folder
from cluster.progress import progress_bar
from cluster.ray_session import RaySession, names_cluster
from cluster.telemetry import logs_are_json
from encoders.bundle.canaries import read_canaries
from encoders.bundle.card import BundleCard, read_card
from indexing.ledger.archives import (
    ArchiveRows,
    mark_changes,
    open_archive,
    read_mark,
)
from indexing.ledger.dead_letters import iter_dead_letters, write_dead_letters
from indexing.ledger.finished import Counts, Finished, Seen, read_finished, write_finished
from indexing.ledger.ledger import Ledger, checked_reasons
from indexing.ledger.manifest import Manifest
from indexing.ledger.plan_archive import Contents, Planned, Source, plan_archive
from indexing.ledger.progress import RunProgress
from indexing.ledger.row_table import Row, State
from indexing.ledger.summary import IndexSummary, Tally, write_summary
from indexing.pipeline.config import IndexConfig, absolute, archive_request, write_config
from indexing.pipeline.recompute import (
    Recomputed,
    VectorMismatchError,
    mismatch_text,
    recompute_clips,
    sample_size,
)
from indexing.pipeline.shards import Work, write_work
from indexing.pipeline.stages import vector_options
from indexing.pipeline.stream import Flow, open_session, read_on_workers
from indexing.pipeline.throughput import Pass, summary_of
from indexing.pipeline.workers import Workers, choose_workers
from indexing.pipeline.write_stage import refresh_rows
from indexing.sources.archive import ArchiveRequest
from indexing.sources.asked_counts import read_asked_counts
from indexing.sources.changes import since_of
from indexing.sources.content import Content
from indexing.sources.fingerprint import read_fingerprint
from indexing.sources.uris import public_uri
from indexing.store.bulk_import import finish_earlier_import
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import is_lite
from indexing.store.lease import Lease
from indexing.store.transfer.index_swap import ensure_index, hold_collection
from indexing.store.vector_index import choose_index

_BLOCKS = "blocks"
_MAX_LETTERS = 100
"""In the summary; dead_letters.parquet has all."""


def index_archive(
    config: IndexConfig, *, console: Console | None = None, is_thorough: bool = False
) -> IndexSummary:
    """The whole run. Raises for a broken setup; a clip that fails becomes a dead letter.

    `is_thorough`: compare every row, also where file stamps and the number of rows say that nothing changed.
    """
    console = console or Console(quiet=True)
    checked_reasons(config.retry)
    progress = RunProgress(config.run_dir, price_per_node_h=config.price_per_node_h)
    with own_run_folder(config.run_dir), progress.published(), Ledger(config.run_dir) as ledger:
        card = read_card(config.bundle)
        read_canaries(config.bundle)  # a bundle without them is refused before anything starts
        with ExitStack() as stack:
            run = _IndexRun(config, card, ledger, stack, console, progress)
            return run.run(is_thorough=is_thorough)


class _IndexRun:
    """One run; what it opens is closed by the stack."""

    _collection: ClipCollection
    _lease: Lease
    _planned: Planned

    def __init__(
        self,
        config: IndexConfig,
        card: BundleCard,
        ledger: Ledger,
        stack: ExitStack,
        console: Console,
        progress: RunProgress,
    ) -> None:
        self._config = config
        self._progress = progress
        self._card = card
        self._ledger = ledger
        self._stack = stack
        self._console = console
        self._done = Pass()
        self._session: RaySession | None = None
        self._is_lite = is_lite(config.milvus_uri)
        self._archive = ArchiveRows()
        self._manifest: Manifest | None = None
        self._mark, self._is_thorough = "", False
        self._asked = read_asked_counts(config.asked) if config.asked else {}
        self._since_s = since_of(config.since, time.time()) if config.since else None

    def run(self, *, is_thorough: bool) -> IndexSummary:
        self._is_thorough, request = is_thorough, archive_request(self._config)
        finished = None if is_thorough else self._finished_before()
        if finished is not None:
            self._open_collection(finished.counts.clips)
            self._own_archive(request)
            if self._is_as_finished(finished):
                self._ensure_index()
                return self._summary(finished.counts)
            return self._bring_up_to_date(self._plan())
        expected = ArchiveRows(name=request.likely_name)
        self._archive = expected
        manifest = self._plan()
        # Ray starts its processes by fork, which is not safe once gRPC has threads: Ray first, then Milvus.
        if manifest.may_need_workers():
            self._open_session()
        self._open_collection(manifest.num_clips)
        self._own_archive(request)
        if self._archive.name != expected.name:
            manifest = self._plan()
        manifest.require_no_other(self._archive.others)
        return self._bring_up_to_date(manifest)

    def _finished_before(self) -> Finished | None:
        """What the last run left, where this one sees the same and is not asked for more."""
        finished = read_finished(self._ledger)
        is_more = self._config.retry or self._config.since or self._config.moved
        if finished is None or is_more or (self._config.prune and finished.counts.orphaned):
            return None
        with self._console.status("looking for changes"):
            seen = self._seen(read_fingerprint(self._config.clips))
        return finished if seen.fingerprint and seen == finished.seen else None

    def _seen(self, fingerprint: str) -> Seen:
        return Seen(
            fingerprint=fingerprint,
            encoder_id=self._card.encoder_id,
            milvus_uri=public_uri(absolute(self._config.milvus_uri)),
            collection=self._config.collection,
        )

    def _is_as_finished(self, finished: Finished) -> bool:
        mark = read_mark(self._collection, self._archive)
        is_same = (self._archive.name, mark) == (finished.archive, finished.mark)
        return is_same and self._archive.count(self._collection) == finished.rows

    def _plan(self) -> Manifest:
        """The clips under the ids and keys that they have in this archive."""
        if self._manifest is None:
            self._stack.callback(lambda: self._manifest and self._manifest.close())
        else:
            self._manifest.close()
        self._manifest = Manifest(self._ledger, self._config.run_dir)
        with self._console.status("planning") as status:
            self._planned = plan_archive(
                Source(self._config.clips, self._since_s),
                self._manifest,
                encoder_id=self._card.encoder_id,
                archive=self._archive,
                contents=Contents(
                    known=self._ledger.contents,
                    keep=self._ledger.keep_contents,
                    read_local=self._read_on_workers if names_cluster() else None,
                ),
                on_part=lambda num: status.update(f"planning: {num:,} clips"),
            )
        return self._manifest

    def _bring_up_to_date(self, manifest: Manifest) -> IndexSummary:
        self._mark = mark_changes(
            self._collection, self._archive, self._ledger, trusts=not self._is_thorough
        )
        finish_earlier_import(self._collection, self._config.run_dir)
        self._collection.flush()  # Milvus Lite lists rows ten times faster afterwards
        self._read_rows(manifest)
        if self._config.prune:
            manifest.rows.require_few_orphans(self._config.max_delete_share)
        self._delete_pages(manifest, manifest.rows.stale())
        self._refresh(manifest)
        if self._config.retry:
            manifest.retry(self._config.retry)
        if not self._ledger.knows_unchecked():
            manifest.check_all()
        num_pending = manifest.begin_pending(self._asked)
        if num_pending or manifest.num_unchecked():
            session = self._open_session()
            workers = choose_workers(self._config.workers, session, is_lite=self._is_lite)
            self._done.workers = workers
            if num_pending:
                self._make(manifest, num_pending, workers)
            self._progress.phase = "checking"
            self._done.recomputed = self._recompute(manifest, workers)
        self._note_checked(manifest)
        if self._config.prune:
            self._delete_pages(manifest, manifest.rows.orphaned())
        if num_pending or self._done.refreshed or self._done.deleted:
            self._collection.flush()
        self._ensure_index()
        return self._finish(manifest)

    def _note_checked(self, manifest: Manifest) -> None:
        if self._config.since:
            manifest.note_checked()
        elif self._ledger.has_unchecked():
            self._ledger.clear_unchecked()

    def _finish(self, manifest: Manifest) -> IndexSummary:
        self._read_rows(manifest)
        counts = Counts(
            clips=manifest.num_clips,
            present=manifest.count(State.PRESENT),
            missing=manifest.count(State.MISSING),
            stale=manifest.rows.num_stale(),
            orphaned=manifest.rows.num_orphaned(),
            dead_by_reason=manifest.dead_by_reason(),
        )
        write_dead_letters(
            self._config.run_dir,
            manifest.dead_letters(),
            is_other=(lambda clip_id: not manifest.has(clip_id)) if self._config.since else None,
        )
        summary = self._summary(counts)
        write_summary(self._config.run_dir, summary)
        unreadable = manifest.count(State.UNREADABLE)
        if self._planned.fingerprint and not (counts.missing or counts.stale or unreadable):
            finished = Finished(
                seen=self._seen(self._planned.fingerprint),
                archive=self._archive.name,
                mark=self._mark,
                rows=self._archive.count(self._collection),
                counts=counts,
            )
            write_finished(self._ledger, finished)
        return summary

    def _summary(self, counts: Counts) -> IndexSummary:
        self._done.rows_in_collection = self._collection.count()
        return summary_of(
            self._done,
            counts,
            self._config,
            encoder_id=self._card.encoder_id,
            session=self._session,
            letters=list(islice(iter_dead_letters(self._config.run_dir), _MAX_LETTERS)),
        )

    def _open_session(self) -> RaySession:
        if self._session is None:
            self._session = open_session(self._stack, self._config, self._progress)
        return self._session

    def _read_on_workers(self, uris: Sequence[str]) -> Iterator[tuple[str, Content]]:
        self._open_session()
        return read_on_workers(uris)

    def _open_collection(self, num_clips: int) -> None:
        opened = open_collection(self._config.milvus_uri, self._config.collection)
        self._collection = self._stack.enter_context(opened)
        self._collection.create_or_check(
            encoder_id=self._card.encoder_id,
            embedding_dim=self._card.embedding_dim,
            vector_dtype=self._config.vector_dtype,
            index_type=choose_index(self._config.index, num_clips, is_lite=self._is_lite),
        )

    def _own_archive(self, request: ArchiveRequest) -> None:
        """The archive as the collection records it, of which this process is the only writer until the run ends."""
        self._archive = open_archive(self._collection, request)
        self._lease = self._stack.enter_context(
            hold_collection(self._collection, self._archive.name, encoder_id=self._card.encoder_id)
        )
        write_config(replace(self._config, archive=self._archive.name))

    def _read_rows(self, manifest: Manifest) -> None:
        with self._console.status("reading the keys of the collection"):
            rows = self._rows(manifest)
            keys = ((row["clip_key"], row["clip_id"]) for row in rows)
            manifest.read_rows(keys, self._archive)

    def _rows(self, manifest: Manifest) -> Iterable[dict[str, Any]]:
        """All rows of the archive, or those of the clips that are looked at."""
        if not self._config.since:
            return self._collection.rows(condition=self._archive.condition())
        fields = ("clip_key", "clip_id")
        pages = manifest.id_pages()
        return (r for page in pages for r in self._collection.rows_of_clips(page, fields=fields))

    def _ensure_index(self) -> None:
        with self._console.status("building the index of the collection"):
            self._done.index = ensure_index(
                self._collection, self._config.index, is_lite=self._is_lite, lease=self._lease
            )

    def _make(self, manifest: Manifest, num_pending: int, workers: Workers) -> None:
        """Vectors of the pending clips into rows."""
        folder = self._config.run_dir / _BLOCKS
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir(exist_ok=True)
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        work = write_work(
            folder,
            manifest.pending(),
            self._planned.fetch_uris,
            num_clips=num_pending,
            num_workers=workers.num_decode,
        )
        self._done.has_remote = work.num_remote > 0
        started, started_cpu_s = time.perf_counter(), time.process_time()
        self._stream(manifest, work, workers, self._done.tally)
        self._done.seconds = time.perf_counter() - started
        self._done.tally.driver_cpu_s = time.process_time() - started_cpu_s

    def _stream(self, manifest: Manifest, work: Work, workers: Workers, tally: Tally) -> None:
        flow = Flow(
            options=vector_options(self._config, self._card),
            workers=workers,
            collection=self._collection,
            run_dir=self._config.run_dir,
            bulk_import=self._config.bulk_import,
        )
        per_node = self._config.fetch.num_workers if work.num_remote else 0
        num_fetch = per_node * workers.num_nodes
        self._progress.begin(tally, total=work.num_clips, num_workers=workers.by_stage(num_fetch))
        shown = not logs_are_json()  # a JSON log gets more than a bar from RunProgress
        bar = progress_bar("indexing", work.num_clips, console=self._console, shown=shown)
        with bar as update:
            for batch, outcomes in flow.stream(work):
                self._lease.check()
                self._ledger.record(outcomes)
                manifest.note_written(outcomes)
                ids = (outcome.clip_id for outcome in outcomes)
                self._delete(manifest, manifest.rows.stale_of(ids))
                tally.add(batch)
                update(tally.written + tally.dead)

    def _recompute(self, manifest: Manifest, workers: Workers) -> Recomputed | None:
        """A sample of the unchecked clips; VectorMismatchError after the rows of all of them have been deleted."""
        num = manifest.num_unchecked()
        wanted = self._config.recompute
        sample = manifest.sample(
            sample_size(num) if wanted is None else wanted, only_unchecked=True
        )
        if not sample:
            return None
        self._collection.check(encoder_id=self._card.encoder_id)  # loads it in a restarted server
        with self._console.status(f"computing {len(sample)} of {num} clips again"):
            recomputed = recompute_clips(
                sample,
                self._collection,
                vector_options(self._config, self._card),
                workers,
                fetch_uris=self._planned.fetch_uris,
                beside=manifest.beside,
            )
        if recomputed.wrong:
            self._delete_pages(manifest, manifest.unchecked_rows())
            self._note_checked(manifest)
            raise VectorMismatchError(
                f"{mismatch_text(recomputed.wrong)}. The rows of all {num} clips of this run have been deleted; find out "
                "what mixes up or damages vectors, then run the same command again"
            )
        return recomputed

    def _refresh(self, manifest: Manifest) -> None:
        """Rows of changed clips, and those that no ledger line describes, or only as failed: a killed retry wrote them."""
        for page in refresh_rows(self._collection, manifest.outdated()):
            self._ledger.record([one.written() for one in page])
            self._done.refreshed += len(page)

    def _delete_pages(self, manifest: Manifest, pages: Iterable[Sequence[Row]]) -> None:
        for rows in pages:
            self._delete(manifest, rows)

    def _delete(self, manifest: Manifest, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self._lease.check()
        self._collection.delete([row.clip_key for row in rows])
        self._ledger.forget((row.clip_id, row.clip_key) for row in rows)
        manifest.rows.forget(rows)
        self._done.deleted += len(rows)
