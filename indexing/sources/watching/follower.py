"""A collection that follows the files of a place: rows of new and changed files in, rows of former content and of files that went out.

As in `index_archive`, a row is in Milvus before its ledger line is written, and an old row goes only after the new one is in. A file
that was renamed keeps its vector.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.stages.base import DeadLetter, error_of
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.dead_letters import write_dead_letters
from indexing.ledger.ledger import Ledger, Outcome, outcomes_of_batch
from indexing.ledger.planned_clip import PlannedClip, plan_clips
from indexing.pipeline.shards import make_shards
from indexing.pipeline.write_stage import WriteStage
from indexing.sources.archive import Archive
from indexing.sources.content import read_contents
from indexing.sources.watching.places import Stamps
from indexing.store.collection import ClipCollection
from indexing.store.rows import clip_key, collection_row
from indexing.store.schema import TO_THE_END, lengthened

Encode = Callable[[Sequence[dict[str, Any]]], Iterable[dict[str, Any]]]
"""Rows of `make_shards` to rows of clips with vectors, as ArchiveVectorStage."""
IsSame = Callable[[PlannedClip], bool]
_PAGE = 256
_FETCH_FAILED = "fetch_failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What was done for some files, and which of them changed meanwhile or could not be read."""

    written: int = 0
    moved: int = 0
    """Rows of files that were renamed, whose vector was copied."""
    deleted: int = 0
    dead: tuple[str, ...] = ()
    """CLIP_ID: REASON of clips that failed for good."""
    again: tuple[str, ...] = ()
    """Ids of clips."""


class Follower:
    """Makes rows for the clips of files, one clip each."""

    def __init__(
        self,
        collection: ClipCollection,
        ledger: Ledger,
        *,
        encoder_id: str,
        archive: ArchiveRows,
        encode: Encode,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """`check` is called before each write, and raises where another process may be writing too."""
        self._collection, self._ledger = collection, ledger
        self._encoder_id, self._rows, self._encode = encoder_id, archive, encode
        self._check = check
        self._write = WriteStage(
            address=collection.address, collection=collection.name, encoder_id=encoder_id
        )
        self._dead: dict[str, str] = {}
        """Stored clip id -> key, of clips that failed with the content that their files have."""

    def differences(self, archive: Archive, stamps: Stamps) -> tuple[set[str], set[str]]:
        """Ids of the clips that need an update, and of those that have rows and no file. Nothing is read but what is kept of the files.

        Letters of other clips than those that failed with the content that they have are taken back.

        `stamps` are by clip id.
        """
        stored: defaultdict[str, set[str]] = defaultdict(set)
        for row in self._collection.rows(condition=self._rows.condition()):
            if self._rows.owns(row["clip_id"]):
                stored[row["clip_id"]].add(row["clip_key"])
        known = self._ledger.contents(clip.video_uri for clip in archive.clips)
        changed: set[str] = set()
        for clip in archive.clips:
            stored_id = self._rows.stored_id(clip.clip_id)
            keys = stored.pop(stored_id, set())
            content = known.get(clip.video_uri)
            if content is None or not stamps[clip.clip_id].is_same(content.stamp):
                changed.add(clip.clip_id)
                continue
            key = clip_key(
                self._encoder_id, stored_id, content.content_hash, clip.start_s, clip.end_s
            )
            if not keys and self._is_dead(stored_id, key):
                self._dead[stored_id] = key
            elif keys != {key}:
                changed.add(clip.clip_id)
        self._write_letters()  # a kill may have come between an outcome and its letter
        return changed, {self._plain_id(stored_id) for stored_id in stored}

    def update(self, archive: Archive, gone: Collection[str], *, is_same: IsSame) -> Update:
        """Bring the rows of these clips, and of clips whose files are gone, up to date.

        `is_same` tells whether the file of a clip still is the one that was planned.
        """
        contents = read_contents(
            (clip.video_uri for clip in archive.clips),
            {},  # something was told of these files, so that what is known of them counts for nothing
            fetch_uris=archive.fetch_uris,
            stamps=archive.stamps,
        )
        planned = plan_clips(
            archive.clips, contents, encoder_id=self._encoder_id, archive=self._rows
        )
        readable = [one for one in planned if not one.problem and is_same(one)]
        self._ledger.keep_contents({one.clip.video_uri: contents[one.clip.video_uri] for one in readable})  # fmt: skip
        gone_ids = [self._rows.stored_id(clip_id) for clip_id in gone]
        rows = self._rows_of([*(one.clip.clip_id for one in readable), *gone_ids])
        keys = {row["clip_key"] for row in rows}
        missing = [
            one
            for one in readable
            if one.clip_key not in keys and not self._is_dead(one.clip.clip_id, one.clip_key)
        ]
        moved = self._move(missing, [row for row in rows if row["clip_id"] in set(gone_ids)])
        missing = [one for one in missing if one.clip_key not in moved]
        outcomes, again = self._make(missing, archive, is_same)
        self._record(readable, keys | moved, outcomes)
        done = [one for one in readable if one.clip_key not in again]
        num_deleted = self._delete_former(rows, done, gone_ids)
        self._note_dead(done, gone_ids)
        left = {one.clip.clip_id for one in planned} - {one.clip.clip_id for one in done}
        return Update(
            written=sum(outcome.error is None for outcome in outcomes),
            moved=len(moved),
            deleted=num_deleted,
            dead=tuple(
                f"{self._plain_id(outcome.clip_id)}: {outcome.error.reason}"
                for outcome in outcomes
                if outcome.error is not None
            ),
            again=tuple(self._plain_id(stored_id) for stored_id in sorted(left)),
        )

    def num_rows(self) -> int:
        """Of the archive; for one without a name, those of others too."""
        return self._collection.count(condition=self._rows.condition())

    def _plain_id(self, stored_id: str) -> str:
        return stored_id.removeprefix(self._rows.stored_id(""))

    def _is_dead(self, stored_id: str, key: str) -> bool:
        outcome = self._ledger.outcome(stored_id, key)
        return outcome is not None and outcome.error is not None

    def _is_written(self, planned: PlannedClip) -> bool:
        outcome = self._ledger.outcome(planned.clip.clip_id, planned.clip_key)
        return outcome is not None and outcome.error is None

    def _rows_of(self, stored_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Keys and places, also of rows of former content."""
        return [
            row
            for first in range(0, len(stored_ids), _PAGE)
            for row in self._collection.rows_of_clips(
                stored_ids[first : first + _PAGE],
                fields=("clip_key", "clip_id", "start_s", "end_s"),
            )
        ]

    def _move(self, missing: Sequence[PlannedClip], left: Sequence[dict[str, Any]]) -> set[str]:
        """Rows for clips whose content has a row under the name of a file that is gone; their keys."""
        former: dict[str, str] = {}
        for one in missing:
            for row in left:
                end_s = None if row["end_s"] == TO_THE_END else row["end_s"]
                span = (row["start_s"], end_s)
                key = clip_key(self._encoder_id, row["clip_id"], one.content_hash, *span)
                if key == row["clip_key"] and span == (one.clip.start_s, one.clip.end_s):
                    former[one.clip_key] = key
        vectors = {row["clip_key"]: row for row in self._collection.rows_of_keys(list(former.values()))}  # fmt: skip
        moved = [one for one in missing if former.get(one.clip_key) in vectors]
        self._check()
        self._collection.upsert(
            [
                collection_row(
                    one.clip,
                    key=one.clip_key,
                    embedding_D=lengthened(row["embedding"], row.get("vector_length", 1.0)),
                    backend=row["backend"],
                    precision=row["precision"],
                )
                for one in moved
                for row in [vectors[former[one.clip_key]]]
            ]
        )
        return {one.clip_key for one in moved}

    def _make(
        self, missing: Sequence[PlannedClip], archive: Archive, is_same: IsSame
    ) -> tuple[list[Outcome], set[str]]:
        """Outcomes of clips whose rows are in, or that failed; and keys of clips whose files changed while they were read."""
        if not missing:
            return [], set()
        rows = list(self._encode(make_shards(missing, archive.fetch_uris)))
        # What was decoded is what was planned where the file still is: else the vector is that of another content.
        changed = {one.clip.clip_id for one in missing if not is_same(one)} | {
            row["clip_id"]
            for row in rows
            if (error := error_of(row["error"])) is not None and error.reason == _FETCH_FAILED
        }
        again = {one.clip_key for one in missing if one.clip.clip_id in changed}
        rows = [row for row in rows if row["clip_id"] not in changed]
        if not rows:
            return [], again
        self._check()
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return outcomes_of_batch(self._write(columns)), again

    def _record(
        self, readable: Sequence[PlannedClip], present: Collection[str], outcomes: list[Outcome]
    ) -> None:
        """Also of rows that are in and have no line, as a kill leaves them."""
        unrecorded = [
            one.written()
            for one in readable
            if one.clip_key in present and not self._is_written(one)
        ]
        if lines := [*outcomes, *unrecorded]:
            self._ledger.record(lines)

    def _delete_former(
        self, rows: Sequence[dict[str, Any]], done: Sequence[PlannedClip], gone: Sequence[str]
    ) -> int:
        """Rows of other contents of the clips that are done, and of those that are gone."""
        wanted = {one.clip.clip_id: one.clip_key for one in done} | dict.fromkeys(gone, "")
        former = [
            (row["clip_id"], row["clip_key"])
            for row in rows
            if row["clip_id"] in wanted and row["clip_key"] != wanted[row["clip_id"]]
        ]
        self._check()
        self._collection.delete([key for _, key in former])
        self._ledger.forget(former)
        return len(former)

    def _note_dead(self, done: Sequence[PlannedClip], gone: Sequence[str]) -> None:
        before = dict(self._dead)
        for stored_id in gone:
            self._dead.pop(stored_id, None)
        for one in done:
            if self._is_dead(one.clip.clip_id, one.clip_key):
                self._dead[one.clip.clip_id] = one.clip_key
            else:
                self._dead.pop(one.clip.clip_id, None)
        if self._dead != before:
            self._write_letters()

    def _write_letters(self) -> None:
        outcomes = [self._ledger.outcome(*row) for row in sorted(self._dead.items())]
        letters = [
            DeadLetter(clip_id=one.clip_id, video_uri=one.video_uri, error=one.error)
            for one in outcomes
            if one is not None and one.error is not None
        ]
        write_dead_letters(self._ledger.run_dir, letters)
