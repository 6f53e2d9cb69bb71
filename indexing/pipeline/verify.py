"""Verifies that a collection holds exactly the rows of its archive, and repairs it; status 0 only when nothing is wrong."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders.bundle.card import read_card
from indexing.ledger.ledger import DEAD_LETTERS, Ledger, read_dead_letters
from indexing.ledger.planned_clip import plan_clips
from indexing.ledger.reconcile import Comparison, compare
from indexing.pipeline.config import CONFIG, IndexConfig, VerifyConfig, read_config
from indexing.pipeline.index_archive import index_archive
from indexing.sources.archive import list_archive
from indexing.sources.content import read_contents
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import require_archive
from indexing.store.filter_expression import quoted
from indexing.store.rows import require_storable

NUM_SHOWN = 5
_PAGE = 256


def verify_archive(config: VerifyConfig) -> Comparison:
    """Reads only; raises when the collection is missing or of another encoder."""
    require_archive(config.milvus_uri)
    card = read_card(config.bundle)
    ledger = Ledger(config.run_dir)
    archive = list_archive(config.clips)
    for clip in archive.clips:
        require_storable(clip)
    known = {} if config.read_all else ledger.read_contents()
    uris = (clip.video_uri for clip in archive.clips)
    contents = read_contents(uris, known, fetch_uris=archive.fetch_uris)
    planned = plan_clips(archive.clips, contents, encoder_id=card.encoder_id)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=card.encoder_id)
        stored = {row["clip_key"]: row["clip_id"] for row in collection.rows()}
        doubled = _doubled_keys(collection, list(stored))
    rows = [*stored.items(), *((key, stored[key]) for key in doubled)]
    return compare(planned, rows, dead_keys=ledger.dead_keys())


def _doubled_keys(collection: ClipCollection, clip_keys: Sequence[str]) -> list[str]:
    """Those of all keys of a collection that more than one row has."""
    if collection.count() == len(clip_keys):
        return []

    def num_rows(keys: Sequence[str]) -> int:
        return collection.count(condition=f"clip_key in [{', '.join(map(quoted, keys))}]")

    pages = [clip_keys[i : i + _PAGE] for i in range(0, len(clip_keys), _PAGE)]
    suspects = [key for page in pages if num_rows(page) > len(page) for key in page]
    return [key for key in suspects if num_rows([key]) > 1]


def repair_archive(config: VerifyConfig, found: Comparison) -> None:
    """Mends exactly what is wrong. Killed in between, it or `tfcovr index` goes on from there.

    A key with several rows loses all of them and is indexed again: which of them is right cannot be known. Those of a video
    that cannot be read now stay until it can.
    """
    card = read_card(config.bundle)
    unreadable = {one.clip.clip_id for one in found.unreadable}
    if again := [key for key, clip_id in found.duplicate.items() if clip_id not in unreadable]:
        with open_collection(config.milvus_uri, config.collection) as collection:
            collection.check(encoder_id=card.encoder_id)
            collection.delete(again)
            collection.flush()
    what: dict[str, Any] = {
        "bundle": config.bundle,
        "clips": config.clips,
        "milvus_uri": config.milvus_uri,
        "run_dir": config.run_dir,
        "collection": config.collection,
        "prune": True,
        "bulk_import": "",  # for first loads; what is mended is little
    }
    has_run = (config.run_dir / CONFIG).exists()
    index_archive(replace(read_config(config.run_dir), **what) if has_run else IndexConfig(**what))


def unread(found: Comparison, run_dir: Path) -> list[str]:
    """Clip ids whose video cannot be read now, and nothing says why: whether their rows are right cannot be told."""
    letters = read_dead_letters(run_dir) if (run_dir / DEAD_LETTERS).exists() else []
    explained = {letter.clip_id for letter in letters}
    clip_ids = (one.clip.clip_id for one in found.unreadable)
    return [clip_id for clip_id in clip_ids if clip_id not in explained]


def faults(found: Comparison) -> dict[str, list[str]]:
    """Clip ids (keys where they say more) by kind of fault."""
    return {
        "missing": [one.clip.clip_id for one in found.missing],
        "duplicate": list(found.duplicate),
        "stale": sorted(found.stale),
        "orphaned": sorted(set(found.orphaned.values())),
    }
