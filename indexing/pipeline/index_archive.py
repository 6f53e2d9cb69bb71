"""Indexes an archive into Milvus: plan, decode, embed, write, ledger; resumable after any interruption.

A row is in Milvus before its ledger line is written, and an old row goes only after the new one is in. A run ends with a sample of
its clips computed again: PENDING lists the clips of a run whose vectors have not been compared yet.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from rich.console import Console

from cluster.processes import own_run_folder
from cluster.progress import progress_bar
from cluster.ray_session import RaySession, count_machines, ray_session, session_with
from cluster.storage import require_shared
from cluster.telemetry import RayMetrics
from encoders.bundle.canaries import read_canaries
from encoders.bundle.card import BundleCard, read_card
from encoders.clips import read_clips, write_clips
from indexing.ledger.archives import ArchiveRequest, ArchiveRows, open_archive
from indexing.ledger.ledger import Ledger, Outcome, write_dead_letters
from indexing.ledger.outcomes import checked_reasons, dead_letters_of, dead_to_retry
from indexing.ledger.planned_clip import PlannedClip, plan_clips
from indexing.ledger.progress import RunProgress
from indexing.ledger.reconcile import Comparison, compare
from indexing.ledger.summary import IndexSummary, Tally, find_bottleneck, stage_times, write_summary
from indexing.pipeline.config import IndexConfig, archive_request, write_config
from indexing.pipeline.recompute import (
    Recomputed,
    VectorMismatchError,
    mismatch_text,
    recompute_clips,
    sample_clips,
)
from indexing.pipeline.stages import vector_options
from indexing.pipeline.stream import Flow
from indexing.pipeline.throughput import (
    advise,
    share_of_cores,
    slowest_stage,
    speed_line,
    stage_speeds,
)
from indexing.pipeline.workers import Workers, choose_workers, worker_bundle
from indexing.pipeline.write_stage import refresh_rows
from indexing.sources.archive import list_archive
from indexing.sources.content import read_contents
from indexing.store.bulk_import import finish_earlier_import
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import is_lite
from indexing.store.lease import Lease
from indexing.store.rows import require_storable, row_digest
from indexing.store.transfer.index_swap import ensure_index, hold_collection
from indexing.store.vector_index import choose_index

logger = logging.getLogger(__name__)
PENDING = "pending.parquet"


def index_archive(config: IndexConfig, *, console: Console | None = None) -> IndexSummary:
    """The whole run. Raises for a broken setup; a clip that fails becomes a dead letter."""
    console = console or Console(quiet=True)
    checked_reasons(config.retry)
    progress = RunProgress(config.run_dir, price_per_node_h=config.price_per_node_h)
    with own_run_folder(config.run_dir), progress.published():
        card = read_card(config.bundle)
        read_canaries(config.bundle)  # a bundle without them is refused before anything starts
        archive = list_archive(config.clips)
        clips = archive.clips
        for clip in clips:
            require_storable(clip)
        ledger = Ledger(config.run_dir)
        with console.status(f"reading the content of the videos of {len(clips)} clips"):
            contents = read_contents(
                (clip.video_uri for clip in clips),
                known := ledger.read_contents(),
                fetch_uris=archive.fetch_uris,
                stamps=archive.stamps,
                keep=ledger.keep_contents,
            )
        if contents != known:
            ledger.write_contents(contents)

        def plan(rows: ArchiveRows) -> list[PlannedClip]:
            return plan_clips(clips, contents, encoder_id=card.encoder_id, archive=rows)

        with ExitStack() as stack:
            run = _IndexRun(config, card, ledger, stack, console, progress)
            return run.run(plan, archive.fetch_uris)


class _IndexRun:
    """One run; what it opens is closed by the stack."""

    _collection: ClipCollection
    _lease: Lease

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
        self._num_deleted = 0
        self._session: RaySession | None = None
        self._is_lite = is_lite(config.milvus_uri)
        self._index = ""
        self._fetch_uris: Mapping[str, str] = {}
        self._clips_path = config.run_dir / PENDING
        self._archive = ArchiveRows()

    def run(
        self, plan: Callable[[ArchiveRows], list[PlannedClip]], fetch_uris: Mapping[str, str]
    ) -> IndexSummary:
        self._fetch_uris = fetch_uris
        request = archive_request(self._config)
        recorded_name = request.recorded[0] if request.recorded else ""
        expected = ArchiveRows(name=recorded_name if request.name is None else request.name)
        planned = plan(expected)
        # Ray starts its processes by fork, which is not safe once gRPC has threads: Ray first, then Milvus.
        session = None
        unchecked_ids = self._unchecked_ids(planned)
        if unchecked_ids or any(
            not planned_clip.problem and planned_clip.clip_key not in self._ledger.outcomes
            for planned_clip in planned
        ):
            session = self._open_session()
        self._collection = self._open_collection(len(planned))
        if (archive := self._own_archive(request)) != expected:
            planned = plan(archive)
        finish_earlier_import(self._collection, self._config.run_dir)
        self._collection.flush()  # Milvus Lite lists rows ten times faster afterwards
        comparison = self._compare(planned)
        if self._config.prune:
            comparison.require_few_orphans(self._config.max_delete_share)
        self._delete_stale(
            comparison,
            [planned_clip.clip.clip_id for planned_clip in (*comparison.present, *comparison.dead)],
        )
        num_refreshed = self._refresh(comparison.present)
        again = dead_to_retry(comparison.dead, self._ledger, self._config.retry)
        pending = [*comparison.missing, *again]
        unchecked = [
            planned_clip
            for planned_clip in comparison.present
            if planned_clip.clip.clip_id in unchecked_ids
        ]
        tally, seconds, workers, recomputed = Tally(), 0.0, None, None
        if pending or unchecked:
            session = session or self._open_session()
            workers = choose_workers(self._config.workers, session, is_lite=self._is_lite)
            write_clips(
                self._clips_path, [planned_clip.clip for planned_clip in (*unchecked, *pending)]
            )
            if pending:
                started, started_cpu_s = time.perf_counter(), time.process_time()
                unchecked += self._stream(pending, comparison, workers, tally)
                seconds = time.perf_counter() - started
                tally.driver_cpu_s = time.process_time() - started_cpu_s
            self._progress.phase = "checking"
            recomputed = self._recompute(unchecked, workers)
        self._clips_path.unlink(missing_ok=True)
        if self._config.prune:
            self._delete(list(comparison.orphaned))
        if pending or num_refreshed or self._num_deleted or self._ledger.num_damaged:
            self._collection.flush()
            self._ledger.compact()
        with self._console.status("building the index of the collection"):
            self._index = ensure_index(
                self._collection, self._config.index, is_lite=self._is_lite, lease=self._lease
            )
        summary = replace(
            self._summarise(planned, tally, seconds, workers),
            refreshed=num_refreshed,
            recomputed=recomputed.line() if recomputed else "",
        )
        write_dead_letters(self._config.run_dir, summary.dead_letters)
        write_summary(self._config.run_dir, summary)
        return summary

    def _open_session(self) -> RaySession:
        session = self._stack.enter_context(ray_session())
        export = RayMetrics(self._progress).export
        attached = self._progress.attached(count_nodes=count_machines, export=export)
        self._stack.enter_context(attached)
        for uri, what, needed in (
            (self._config.milvus_uri, "the Milvus URI", "http://HOST:19530"),
            (self._config.run_dir, "the run folder", "a folder on NFS, /mnt/SHARED/RUN"),
        ):
            # The nodes that come are not this one.
            num_nodes = session.num_nodes + session.can_grow
            require_shared(uri, num_nodes=num_nodes, what=what, needed=needed)
        # What one worker needs: the node that comes tells what the others will have.
        session = session_with(session, [worker_bundle(self._config.workers)])
        self._session = session
        return session

    def _open_collection(self, num_clips: int) -> ClipCollection:
        opened = open_collection(self._config.milvus_uri, self._config.collection)
        collection = self._stack.enter_context(opened)
        collection.create_or_check(
            encoder_id=self._card.encoder_id,
            embedding_dim=self._card.embedding_dim,
            vector_dtype=self._config.vector_dtype,
            index_type=choose_index(self._config.index, num_clips, is_lite=self._is_lite),
        )
        return collection

    def _own_archive(self, request: ArchiveRequest) -> ArchiveRows:
        """The archive as the collection records it, of which this process is the only writer until the run ends."""
        self._archive = open_archive(self._collection, request)
        self._lease = self._stack.enter_context(
            hold_collection(self._collection, self._archive.name, encoder_id=self._card.encoder_id)
        )
        write_config(replace(self._config, archive=self._archive.name))
        return self._archive

    def _compare(self, planned: Sequence[PlannedClip]) -> Comparison:
        rows = self._collection.rows(condition=self._archive.condition())
        stored = [(row["clip_key"], row["clip_id"]) for row in rows]
        dead_keys = self._ledger.dead_keys()
        return compare(planned, stored, dead_keys=dead_keys, archive=self._archive)

    def _stream(
        self,
        pending: Sequence[PlannedClip],
        comparison: Comparison,
        workers: Workers,
        tally: Tally,
    ) -> list[PlannedClip]:
        """The clips that were written."""
        flow = Flow(
            options=vector_options(self._config, self._card),
            workers=workers,
            collection=self._collection,
            fetch_uris=self._fetch_uris,
            run_dir=self._config.run_dir,
            bulk_import=self._config.bulk_import,
        )
        num_fetch = self._config.fetch.num_workers if self._fetch_uris else 0
        self._progress.begin(tally, total=len(pending), num_workers=workers.by_stage(num_fetch))
        by_key = {planned_clip.clip_key: planned_clip for planned_clip in pending}
        written: list[PlannedClip] = []
        with progress_bar("indexing", len(pending), console=self._console) as update:
            for batch, outcomes in flow.stream(pending):
                self._lease.check()
                self._ledger.record(outcomes)
                self._delete_stale(comparison, [outcome.clip_id for outcome in outcomes])
                written += [
                    by_key[outcome.clip_key] for outcome in outcomes if outcome.error is None
                ]
                tally.add(batch)
                update(tally.written + tally.dead)
        return written

    def _unchecked_ids(self, planned: Sequence[PlannedClip]) -> set[str]:
        """Clips of a run that ended before a sample of its vectors was compared; any clip where their list is damaged."""
        if not self._clips_path.exists():
            return set()
        try:
            return {clip.clip_id for clip in read_clips(self._clips_path)}
        except ValueError as error:
            logger.warning("%s; passed over, a sample of all clips is computed again", error)
            return {planned_clip.clip.clip_id for planned_clip in planned}

    def _recompute(self, written: Sequence[PlannedClip], workers: Workers) -> Recomputed | None:
        """A sample of these clips; VectorMismatchError after the rows of all of them have been deleted."""
        sample = sample_clips(written, self._config.recompute)
        if not sample:
            return None
        self._collection.check(encoder_id=self._card.encoder_id)  # loads it in a restarted server
        with self._console.status(f"computing {len(sample)} of {len(written)} clips again"):
            recomputed = recompute_clips(
                sample,
                self._collection,
                vector_options(self._config, self._card),
                workers,
                fetch_uris=self._fetch_uris,
                beside=written,
            )
        if recomputed.wrong:
            self._delete([planned_clip.clip_key for planned_clip in written])
            self._ledger.compact()
            self._clips_path.unlink()
            raise VectorMismatchError(
                f"{mismatch_text(recomputed.wrong)}. The rows of all {len(written)} clips of this run have been deleted; find out "
                "what mixes up or damages vectors, then run the same command again"
            )
        return recomputed

    def _refresh(self, present: Sequence[PlannedClip]) -> int:
        """Rows whose label, attributes or file name changed, or that no ledger line describes."""
        outdated = [
            planned_clip
            for planned_clip in present
            if (known := self._ledger.outcomes.get(planned_clip.clip_key)) is None
            or known.error is not None  # a retry wrote it, and was killed before it said so
            or known.row_digest != row_digest(planned_clip.clip)
        ]
        refresh_rows(self._collection, outdated)
        self._ledger.record(
            [
                Outcome(
                    clip_key=planned_clip.clip_key,
                    clip_id=planned_clip.clip.clip_id,
                    video_uri=planned_clip.clip.video_uri,
                    row_digest=row_digest(planned_clip.clip),
                )
                for planned_clip in outdated
            ]
        )
        return len(outdated)

    def _delete_stale(self, comparison: Comparison, clip_ids: Sequence[str]) -> None:
        self._delete([key for clip_id in clip_ids for key in comparison.stale.get(clip_id, ())])

    def _delete(self, clip_keys: Sequence[str]) -> None:
        self._lease.check()
        self._collection.delete(clip_keys)
        self._ledger.forget(clip_keys)
        self._num_deleted += len(clip_keys)

    def _summarise(
        self,
        planned: Sequence[PlannedClip],
        tally: Tally,
        seconds: float,
        workers: Workers | None,
    ) -> IndexSummary:
        comparison = self._compare(planned)
        letters = dead_letters_of(comparison, self._ledger)
        num_fetch = self._config.fetch.num_workers if self._fetch_uris else 0
        num_workers = workers.by_stage(num_fetch) if workers else {}
        stages = stage_times(tally.busy_s, num_workers, seconds=seconds)
        whole_rate = tally.written / seconds if seconds else 0.0
        rate = tally.clips_per_s_warm() or whole_rate
        speeds = stage_speeds(tally.ceilings_per_s(), num_workers, rate)
        bottleneck = slowest_stage(speeds) or find_bottleneck(stages)
        num_cpus = self._session.num_cpus if self._session else 0.0
        line = ""
        if workers and tally.written:
            advice = advise(bottleneck, workers, num_cpus=num_cpus, is_lite=self._is_lite)
            cores = share_of_cores(speeds, workers, whole_rate)
            line = speed_line(speeds, bottleneck, advice, cores=cores)
        return IndexSummary(
            clips_in=len(planned),
            written=tally.written,
            dead=len(letters),
            dead_by_reason=dict(Counter(letter.error.reason for letter in letters).most_common()),
            skipped=max(len(comparison.present) - tally.written, 0),
            missing=len(comparison.missing),
            stale=sum(
                len(comparison.stale.get(planned_clip.clip.clip_id, ()))
                for planned_clip in (*comparison.present, *comparison.dead)
            ),
            refreshed=0,
            recomputed="",
            deleted=self._num_deleted,
            rows_in_collection=self._collection.count(),
            index=self._index,
            seconds=round(seconds, 3),
            clips_per_s=round(whole_rate, 3),
            clips_per_s_warm=round(tally.clips_per_s_warm(), 3),
            bottleneck=bottleneck,
            speed_of_light=line,
            speeds=speeds,
            stages=stages,
            dead_in_run=tally.dead_by_stage(),
            driver_cpu_s=round(tally.driver_cpu_s, 3),
            devices=workers.devices() if workers else {},
            num_cpus=num_cpus,
            num_gpus=self._session.num_gpus if self._session else 0.0,
            embed_backends=dict(tally.embed_backends),
            decode_backends=dict(tally.decode_backends),
            frames_decoded=tally.frames_decoded,
            frames_used=tally.frames_used,
            decode_fallbacks=dict(tally.decode_fallbacks),
            canary_min_cosine=tally.canary_min_cosine,
            encoder_id=self._card.encoder_id,
            bundle_dir=str(self._config.bundle),
            milvus_uri=self._config.milvus_uri,
            collection=self._config.collection,
            dead_letters=tuple(letters),
        )
