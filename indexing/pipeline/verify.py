"""Verifies that a collection holds exactly the rows of its archive, and repairs it; status 0 only when nothing is wrong."""

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from cluster.ray_session import ray_session
from cluster.storage import scratch_folder
from encoders.bundle.card import BundleCard, read_card
from indexing.ledger.archives import ArchiveRows, find_archive, read_mark
from indexing.ledger.dead_letters import iter_dead_letters
from indexing.ledger.ledger import Ledger
from indexing.ledger.manifest import Manifest
from indexing.ledger.plan_archive import Contents, Planned, Source, plan_archive
from indexing.ledger.planned_clip import PlannedClip
from indexing.ledger.row_table import Row, State, require_few_orphans
from indexing.pipeline.config import IndexConfig, VerifyConfig, archive_request, earlier_settings
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.recompute import Recomputed, recompute_clips
from indexing.pipeline.stages import vector_options
from indexing.pipeline.workers import choose_workers
from indexing.pipeline.write_stage import differing_rows
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import is_lite, require_archive
from indexing.store.filter_expression import quoted
from indexing.store.transfer.index_swap import hold_collection

MOST_NAMED = 10_000
_PAGE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Clips of one kind of fault."""

    count: int
    clip_ids: tuple[str, ...]
    """The first MOST_NAMED of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a collection has and what it should have."""

    present: int
    dead: int
    unreadable: int
    rows: int
    """Of the archive, by key."""
    faults: dict[str, Fault]
    """By kind; `unread` are clips whose video cannot be read now, and nothing says why: whether their rows are right cannot be told."""
    why_unread: str
    """Of the first of them."""
    doubled: tuple[Row, ...]
    """Keys that more than one row has, but those of videos that cannot be read now."""
    recomputed: Recomputed | None
    """A sample of the vectors beside vectors computed again; None = not asked for."""
    wrong: tuple[Row, ...]
    """The rows of those that differ."""

    @property
    def is_right(self) -> bool:
        """Whether there is no fault."""
        return not any(fault.count for fault in self.faults.values())

    @property
    def has_repairs(self) -> bool:
        """Whether there is a fault that a repair can mend."""
        return any(fault.count for kind, fault in self.faults.items() if kind != "unread")


def verify_archive(config: VerifyConfig) -> Verification:
    """Reads only; raises when the collection is missing or of another encoder."""
    require_archive(config.milvus_uri)
    card = read_card(config.bundle)
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(config.run_dir, reads_only=True))
        # Ray starts its processes by fork, which is not safe once gRPC has threads: Ray first, then Milvus.
        session = stack.enter_context(ray_session()) if config.recompute else None
        collection = stack.enter_context(open_collection(config.milvus_uri, config.collection))
        collection.check(encoder_id=card.encoder_id)
        # A gigabyte for a million clips: beside the ledger, not where a temporary folder may be memory.
        place = config.run_dir if os.access(config.run_dir, os.W_OK) else None
        folder = stack.enter_context(scratch_folder(place, ".verify-"))
        manifest = Manifest(ledger, folder)
        stack.callback(manifest.close)
        own = find_archive(collection, archive_request(config))
        planned = _plan(config, card, ledger, manifest, collection, own)
        recomputed = None
        if session is not None:
            index = _index_config(config)
            recomputed = recompute_clips(
                manifest.sample(config.recompute, only_unchecked=False),
                collection,
                vector_options(index, card),
                choose_workers(index.workers, session, is_lite=is_lite(config.milvus_uri)),
                fetch_uris=planned.fetch_uris,
                beside=manifest.beside,
            )
        # Another run folder may have written rows since: then only they themselves say what they hold.
        is_own = not config.read_all and ledger.mark() == read_mark(collection, own)
        suspects = manifest.outdated() if is_own else manifest.clips(State.PRESENT)
        outdated = (
            one.clip.clip_id
            for _page, differing in differing_rows(collection, suspects)
            for one in differing
        )
        return _verification(manifest, recomputed, outdated, config.run_dir)


def _plan(
    config: VerifyConfig,
    card: BundleCard,
    ledger: Ledger,
    manifest: Manifest,
    collection: ClipCollection,
    own: ArchiveRows,
) -> Planned:
    """The clips beside the rows, with the rows that share a key."""
    planned = plan_archive(
        Source(config.clips),
        manifest,
        encoder_id=card.encoder_id,
        archive=own,
        contents=Contents(known=(lambda _: {}) if config.read_all else ledger.contents),
    )
    manifest.read_rows(((row["clip_key"], row["clip_id"]) for row in collection.rows()), own)
    if doubled := _doubled_rows(collection, manifest, own.count(collection)):
        manifest.rows.add(doubled)
    return planned


def _doubled_rows(collection: ClipCollection, manifest: Manifest, num_rows: int) -> list[Row]:
    """Those whose key more than one row has; a list of all rows has each key once."""
    if num_rows == manifest.rows.num():
        return []

    def count(rows: Sequence[Row]) -> int:
        keys = ", ".join(quoted(row.clip_key) for row in rows)
        return collection.count(condition=f"clip_key in [{keys}]")

    doubled: list[Row] = []
    for page in manifest.rows.all():
        for first in range(0, len(page), _PAGE):
            part = page[first : first + _PAGE]
            if count(part) > len(part):
                doubled += [row for row in part if count([row]) > 1]
    return doubled


def _verification(
    manifest: Manifest, recomputed: Recomputed | None, outdated: Iterable[str], run_dir: Path
) -> Verification:
    doubled = manifest.rows.doubled()
    wrong = dict(recomputed.wrong) if recomputed else {}
    present, dead = manifest.count(State.PRESENT), manifest.count(State.DEAD)
    missing = manifest.count(State.MISSING)
    explained = (letter.clip_id for letter in iter_dead_letters(run_dir))
    if not (present or missing or dead):  # no dead letter explains that not one video can be read
        explained = iter(())
    unread, why_unread = _unread(manifest.unexplained(explained))
    faults = {
        "missing": Fault(count=missing, clip_ids=_first(manifest.ids(State.MISSING))),
        "duplicate": _fault([row.clip_key for row in doubled]),
        "stale": Fault(
            count=manifest.rows.num_stale_clips(), clip_ids=_first(manifest.rows.stale_ids())
        ),
        "orphaned": Fault(
            count=manifest.rows.num_orphaned(), clip_ids=_first(manifest.rows.orphaned_ids())
        ),
        "wrong": _fault(sorted(wrong)),
        "outdated": _fault(outdated),
        "unread": unread,
    }
    return Verification(
        present=present,
        dead=dead,
        unreadable=manifest.count(State.UNREADABLE),
        rows=manifest.rows.num(),
        faults=faults,
        why_unread=why_unread,
        doubled=tuple(row for row in doubled if manifest.is_readable(row.clip_id)),
        recomputed=recomputed,
        wrong=tuple(manifest.rows_of(wrong)),
    )


def _unread(planned: Iterable[PlannedClip]) -> tuple[Fault, str]:
    """With the problem of the first."""
    count, clip_ids, problem = 0, [], ""
    for one in planned:
        count += 1
        problem = problem or one.problem
        if count <= MOST_NAMED:
            clip_ids.append(one.clip.clip_id)
    return Fault(count=count, clip_ids=tuple(clip_ids)), problem


def _first(clip_ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(islice(clip_ids, MOST_NAMED))


def _fault(names: Iterable[str]) -> Fault:
    """Of any number of names, of which the first stay in memory."""
    rest = iter(names)
    first = _first(rest)
    return Fault(count=len(first) + sum(1 for _ in rest), clip_ids=first)


def repair_archive(config: VerifyConfig, verification: Verification) -> None:
    """Repairs exactly what is wrong; resumable, by itself or by `tfcovr index`.

    A key with several rows, or with a wrong vector, loses its rows and is indexed again. Those of a video that cannot be read now
    stay until it can.
    """
    card = read_card(config.bundle)
    orphaned = verification.faults["orphaned"]
    first = orphaned.clip_ids[0] if orphaned.count else ""
    require_few_orphans(orphaned.count, verification.rows, first, config.max_delete_share)
    again = (*verification.doubled, *verification.wrong)
    if again:
        with open_collection(config.milvus_uri, config.collection) as collection:
            collection.check(encoder_id=card.encoder_id)
            own = find_archive(collection, archive_request(config))
            with hold_collection(collection, own.name, encoder_id=card.encoder_id):
                collection.delete([row.clip_key for row in again])
                collection.flush()
    index = replace(_index_config(config), prune=True, max_delete_share=config.max_delete_share)
    index_archive(index, is_thorough=True)


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
