"""Verifies that a collection holds exactly the rows of its archive, and repairs it; status 0 only when nothing is wrong."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.ray_session import ray_session
from encoders.bundle.card import read_card
from indexing.ledger.archives import find_archive
from indexing.ledger.ledger import Ledger, read_dead_letters
from indexing.ledger.planned_clip import plan_clips
from indexing.ledger.reconcile import Comparison, compare
from indexing.pipeline.config import IndexConfig, VerifyConfig, archive_request, earlier_settings
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.recompute import Recomputed, recompute_clips, sample_clips
from indexing.pipeline.stages import vector_options
from indexing.pipeline.workers import choose_workers
from indexing.sources.archive import list_archive
from indexing.sources.content import read_contents
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import is_lite, require_archive
from indexing.store.filter_expression import quoted
from indexing.store.rows import require_storable
from indexing.store.transfer.index_swap import hold_collection

NUM_SHOWN = 5
_PAGE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a collection has and what it should have."""

    comparison: Comparison
    recomputed: Recomputed | None
    """A sample of the vectors beside vectors computed again; None = not asked for."""

    def faults(self) -> dict[str, list[str]]:
        """Clip ids (keys where they say more) by kind of fault."""
        compared = self.comparison
        return {
            "missing": [planned_clip.clip.clip_id for planned_clip in compared.missing],
            "duplicate": list(compared.duplicate),
            "stale": sorted(compared.stale),
            "orphaned": sorted(set(compared.orphaned.values())),
            "wrong": sorted(self.recomputed.wrong) if self.recomputed else [],
        }

    def unread(self, run_dir: Path) -> list[str]:
        """Clip ids whose video cannot be read now, and nothing says why: whether their rows are right cannot be told."""
        explained = {letter.clip_id for letter in read_dead_letters(run_dir)}
        clip_ids = (planned_clip.clip.clip_id for planned_clip in self.comparison.unreadable)
        return [clip_id for clip_id in clip_ids if clip_id not in explained]


def verify_archive(config: VerifyConfig) -> Verification:
    """Reads only; raises when the collection is missing or of another encoder."""
    require_archive(config.milvus_uri)
    card = read_card(config.bundle)
    ledger = Ledger(config.run_dir)
    archive = list_archive(config.clips)
    for clip in archive.clips:
        require_storable(clip)
    known = {} if config.read_all else ledger.read_contents()
    uris = (clip.video_uri for clip in archive.clips)
    contents = read_contents(uris, known, fetch_uris=archive.fetch_uris, stamps=archive.stamps)
    with ExitStack() as stack:
        # Ray starts its processes by fork, which is not safe once gRPC has threads: Ray first, then Milvus.
        session = stack.enter_context(ray_session()) if config.recompute else None
        collection = stack.enter_context(open_collection(config.milvus_uri, config.collection))
        collection.check(encoder_id=card.encoder_id)
        own = find_archive(collection, archive_request(config))
        planned = plan_clips(archive.clips, contents, encoder_id=card.encoder_id, archive=own)
        stored = {row["clip_key"]: row["clip_id"] for row in collection.rows()}
        doubled = _doubled_keys(collection, list(stored))
        rows = [*stored.items(), *((key, stored[key]) for key in doubled)]
        comparison = compare(planned, rows, dead_keys=ledger.dead_keys(), archive=own)
        if session is None:
            return Verification(comparison=comparison, recomputed=None)
        index = _index_config(config)
        recomputed = recompute_clips(
            sample_clips(comparison.present, config.recompute),
            collection,
            vector_options(index, card),
            choose_workers(index.workers, session, is_lite=is_lite(config.milvus_uri)),
            fetch_uris=archive.fetch_uris,
            beside=comparison.present,
        )
        return Verification(comparison=comparison, recomputed=recomputed)


def _doubled_keys(collection: ClipCollection, clip_keys: Sequence[str]) -> list[str]:
    """Those of all keys of a collection that more than one row has."""
    if collection.count() == len(clip_keys):
        return []

    def num_rows(keys: Sequence[str]) -> int:
        return collection.count(condition=f"clip_key in [{', '.join(map(quoted, keys))}]")

    pages = [clip_keys[i : i + _PAGE] for i in range(0, len(clip_keys), _PAGE)]
    suspects = [key for page in pages if num_rows(page) > len(page) for key in page]
    return [key for key in suspects if num_rows([key]) > 1]


def repair_archive(config: VerifyConfig, verification: Verification) -> None:
    """Repairs exactly what is wrong; resumable, by itself or by `tfcovr index`.

    A key with several rows, or with a wrong vector, loses its rows and is indexed again. Those of a video that cannot be read now
    stay until it can.
    """
    card = read_card(config.bundle)
    compared, wrong = verification.comparison, verification.faults()["wrong"]
    compared.require_few_orphans(config.max_delete_share)
    unreadable = {planned_clip.clip.clip_id for planned_clip in compared.unreadable}
    again = [key for key, clip_id in compared.duplicate.items() if clip_id not in unreadable]
    again += [
        planned_clip.clip_key
        for planned_clip in compared.present
        if planned_clip.clip.clip_id in set(wrong)
    ]
    if again:
        with open_collection(config.milvus_uri, config.collection) as collection:
            collection.check(encoder_id=card.encoder_id)
            own = find_archive(collection, archive_request(config))
            with hold_collection(collection, own.name, encoder_id=card.encoder_id):
                collection.delete(again)
                collection.flush()
    index = replace(_index_config(config), prune=True, max_delete_share=config.max_delete_share)
    index_archive(index)


def _index_config(config: VerifyConfig) -> IndexConfig:
    """The settings of the archive's last run, for this bundle and these places."""
    return earlier_settings(
        config.run_dir,
        bundle=config.bundle,
        clips=config.clips,
        milvus_uri=config.milvus_uri,
        collection=config.collection,
        archive=config.archive,
        bulk_import="",  # for first loads; a repair is small
    )
