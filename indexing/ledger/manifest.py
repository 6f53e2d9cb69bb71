"""The manifest of a run: every clip that the archive should have in its collection, beside every row that it has, as tables on disk.

Tables of SQLite beside the ledger's, which is joined with them: nothing here holds all clips or all rows in memory, and one pass over
a sorted index answers what is missing. Made anew by every run, and removed with it.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from encoders.clips import Clip
from encoders.stages.base import ClipError, DeadLetter
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import ALL_REASONS, Ledger, Outcome
from indexing.ledger.planned_clip import PlannedClip
from indexing.ledger.row_table import PAGE, SCHEMA, PlanTables, Row, RowTable, State
from indexing.sources.content import FileStamp
from indexing.store.rows import row_digest

_CACHE_KIB = 32 * 1024
_IDS_PER_PAGE = 500
_SCHEMA = """
CREATE TABLE plan.clips (
    position INTEGER PRIMARY KEY, state INTEGER, clip_id TEXT, clip_key TEXT, video_uri TEXT, start_s REAL, end_s REAL,
    label TEXT, split TEXT, attributes TEXT, row_digest TEXT,
    content_hash TEXT, size_bytes INTEGER, mtime_ns INTEGER, version TEXT, problem TEXT
);
CREATE TABLE plan.pending (clip INTEGER);
CREATE TABLE plan.dead (clip_id TEXT, clip_key TEXT, PRIMARY KEY (clip_id, clip_key)) WITHOUT ROWID;
"""
_COLUMNS = (
    *("c.position", "c.clip_id", "c.clip_key", "c.video_uri", "c.start_s", "c.end_s", "c.label"),
    *("c.split", "c.attributes", "c.content_hash", "c.size_bytes", "c.mtime_ns", "c.version"),
    "c.problem",
)
_IS_OWN_ROW = "r.clip_id = c.clip_id AND r.clip_key = c.clip_key"
_IS_OWN_OUTCOME = "o.clip_id = c.clip_id AND o.clip_key = c.clip_key"


_UNCHECKED = (
    f"c.state = {State.PRESENT:d} AND EXISTS (SELECT 1 FROM unchecked u WHERE "
    "u.clip_id = c.clip_id AND u.clip_key = c.clip_key)"
)


class Manifest(PlanTables):
    """Fill it with `add` and `read_rows`; then it knows the state of every clip."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        super().__init__(ledger.database, folder / "manifest.sqlite")
        self._path.unlink(missing_ok=True)  # of a run that was killed
        uri = f"file:{quote(str(self._path))}?mode=rwc"
        self._database.execute("ATTACH DATABASE ? AS plan", (uri,))
        settings = ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{_CACHE_KIB}")  # fmt: skip
        for setting in settings:
            self._database.execute(f"PRAGMA plan.{setting}")
        self._database.executescript(_SCHEMA + SCHEMA)
        self.num_clips = 0
        self.rows = RowTable(self._database, self._path)

    def close(self) -> None:
        """Remove it."""
        with suppress(
            sqlite3.Error
        ):  # of a statement that an error left open: closing the ledger ends it
            self._database.execute("DETACH DATABASE plan")
        self._path.unlink(missing_ok=True)

    def add(self, planned: Iterable[PlannedClip]) -> None:
        """The clips that follow in the order of the archive."""
        rows = []
        for one in planned:
            clip, stamp = one.clip, one.stamp
            size = (stamp.size_bytes, stamp.mtime_ns, stamp.version) if stamp else (None,) * 3
            attributes = _attributes_text(tuple(clip.attributes.items()))
            labels = (clip.label, clip.split, attributes, row_digest(clip))
            place = (clip.clip_id, one.clip_key, clip.video_uri, clip.start_s, clip.end_s)
            rows.append((*place, *labels, one.content_hash, *size, one.problem))
        names = "clip_id, clip_key, video_uri, start_s, end_s, label, split, attributes, row_digest, content_hash, size_bytes, mtime_ns, version, problem"
        marks = ", ".join("?" * (names.count(",") + 1))
        self._apply(f"INSERT INTO plan.clips (state, {names}) VALUES (0, {marks})", rows)
        self.num_clips += len(rows)

    def require_own_ids(self, source: str) -> None:
        """ValueError where two clips have one id; call it after the last `add`."""
        try:
            self._database.execute("CREATE UNIQUE INDEX plan.by_id ON clips (clip_id)")
        except sqlite3.IntegrityError:
            clip_id, first, second = self._database.execute(
                "SELECT clip_id, MIN(position), MAX(position) FROM plan.clips GROUP BY clip_id HAVING COUNT(*) > 1 LIMIT 1"
            ).fetchone()
            raise ValueError(
                f"{source}: clips {first} and {second} both have clip_id {clip_id!r}; it must be unique"
            ) from None

    def may_need_workers(self) -> bool:
        """Whether a clip has no outcome, or there are vectors to compare: before the rows are known."""
        query = f"SELECT 1 FROM plan.clips c WHERE problem = '' AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE {_IS_OWN_OUTCOME}) LIMIT 1"
        unchecked = "SELECT 1 FROM unchecked u WHERE u.clip_id = '' OR EXISTS (SELECT 1 FROM plan.clips c WHERE c.clip_id = u.clip_id) LIMIT 1"
        return any(self._database.execute(one).fetchone() for one in (query, unchecked))

    def read_rows(self, rows: Iterable[tuple[str, str]], archive: ArchiveRows) -> None:
        """(clip_key, clip_id) of every row of the collection; those of other archives are passed over."""
        self.rows.read(rows, archive)
        self._read_dead()
        self._database.execute(
            f"""UPDATE plan.clips AS c SET state = CASE
                WHEN problem != '' THEN {State.UNREADABLE:d}
                WHEN EXISTS (SELECT 1 FROM plan.rows r WHERE {_IS_OWN_ROW}) THEN {State.PRESENT:d}
                WHEN EXISTS (SELECT 1 FROM plan.dead o WHERE {_IS_OWN_OUTCOME}) THEN {State.DEAD:d}
                ELSE {State.MISSING:d} END"""
        )

    def _read_dead(self) -> None:
        """Page by page: a run that writes the ledger is never held up for long."""
        self._database.execute("DELETE FROM plan.dead")
        after = ("", "")
        query = (
            "SELECT clip_id, clip_key FROM outcomes WHERE stage IS NOT NULL AND (clip_id, clip_key) > (?, ?) "
            "ORDER BY clip_id, clip_key LIMIT ?"
        )
        while page := self._database.execute(query, (*after, PAGE)).fetchall():
            self._apply("INSERT INTO plan.dead VALUES (?, ?)", page)
            after = page[-1]

    def count(self, state: State) -> int:
        """Number of clips in a state."""
        return self._number("SELECT COUNT(*) FROM plan.clips WHERE state = ?", (state,))

    def clips(self, state: State) -> Iterator[PlannedClip]:
        """The clips in a state, in the order of the archive."""
        return self._clips(f"c.state = {state:d}")

    def outdated(self) -> Iterator[PlannedClip]:
        """Present clips whose row lacks what the archive says now, or that no outcome describes."""
        return self._clips(
            f"c.state = {State.PRESENT:d} AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE {_IS_OWN_OUTCOME} AND "
            "o.stage IS NULL AND o.row_digest = c.row_digest)"
        )

    def retry(self, reasons: Collection[str]) -> None:
        """Dead clips whose recorded reason is one of these (ALL_REASONS = any) become missing ones."""
        is_any = ALL_REASONS in reasons
        is_chosen = "1" if is_any else f"o.reason IN ({', '.join('?' * len(reasons))})"
        self._database.execute(
            f"UPDATE plan.clips AS c SET state = {State.MISSING:d} WHERE state = {State.DEAD:d} AND "
            f"EXISTS (SELECT 1 FROM outcomes o WHERE {_IS_OWN_OUTCOME} AND {is_chosen})",
            () if is_any else tuple(reasons),
        )

    def begin_pending(self, asked: Mapping[str, int] | None = None) -> int:
        """Fix which clips are made now: the missing ones, by video and start. Their number; durable, with the need to compare them.

        `asked` is how often clips are asked for: those come first, those of the most asked videos before the others.
        """
        self._database.execute("DELETE FROM plan.pending")
        if not asked:
            order = "SELECT position FROM plan.clips WHERE state = {0} ORDER BY video_uri, start_s"
        else:
            self._database.execute("DROP TABLE IF EXISTS plan.asked")
            self._database.execute("CREATE TABLE plan.asked (clip_id TEXT PRIMARY KEY, num INTEGER) WITHOUT ROWID")  # fmt: skip
            self._apply("INSERT INTO plan.asked VALUES (?, ?)", asked.items())
            order = (
                "SELECT c.position FROM plan.clips c LEFT JOIN plan.asked a ON a.clip_id = c.clip_id WHERE c.state = {0} "
                "ORDER BY a.num IS NULL, SUM(a.num) OVER (PARTITION BY a.num IS NULL, c.video_uri) DESC, c.video_uri, c.start_s"
            )
        self._database.execute(f"INSERT INTO plan.pending {order.format(int(State.MISSING))}")
        self._apply(
            "INSERT OR IGNORE INTO unchecked SELECT clip_id, clip_key FROM plan.clips c JOIN plan.pending p ON c.position = p.clip"
        )
        return self._number("SELECT COUNT(*) FROM plan.pending")

    def pending(self) -> Iterator[PlannedClip]:
        """The clips of `begin_pending`, those of one video together."""
        query = (
            f"SELECT p.rowid, {', '.join(_COLUMNS)} FROM plan.pending p JOIN plan.clips c ON c.position = p.clip "
            "WHERE p.rowid > ? ORDER BY p.rowid LIMIT ?"
        )
        for page in self._paged(query):
            yield from (_planned(row[1:]) for row in page)

    def note_written(self, outcomes: Iterable[Outcome]) -> None:
        """These clips have a row by now."""
        keys = [(one.clip_id, one.clip_key) for one in outcomes if one.error is None]
        self._apply(
            f"UPDATE plan.clips SET state = {State.PRESENT:d} WHERE clip_id = ? AND clip_key = ?",
            keys,
        )

    def check_all(self) -> None:
        """The vectors of all present clips are to be compared: nothing tells which ones were."""
        self._apply(
            f"INSERT OR IGNORE INTO unchecked SELECT clip_id, clip_key FROM plan.clips WHERE state = {State.PRESENT:d}"
        )

    def note_checked(self) -> None:
        """The vectors of these clips were compared."""
        self._apply(
            "DELETE FROM unchecked WHERE EXISTS (SELECT 1 FROM plan.clips c WHERE c.clip_id = unchecked.clip_id)"
        )

    def require_no_other(self, names: Iterable[str]) -> None:
        """ValueError where a clip's id would be taken for one of another archive's."""
        for name in names:
            prefix = f"{name}:"
            query = "SELECT clip_id FROM plan.clips WHERE substr(clip_id, 1, ?) = ? LIMIT 1"
            for (clip_id,) in self._database.execute(query, (len(prefix), prefix)).fetchall():
                ArchiveRows(others=frozenset({name})).stored_id(clip_id)

    def num_unchecked(self) -> int:
        """Present clips whose vectors were not compared yet."""
        return self._number(f"SELECT COUNT(*) FROM plan.clips c WHERE {_UNCHECKED}")

    def sample(self, num: int, *, only_unchecked: bool) -> list[PlannedClip]:
        """So many present clips, at random."""
        condition = _UNCHECKED if only_unchecked else f"c.state = {State.PRESENT:d}"
        rows = self._database.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM plan.clips c WHERE position IN "
            f"(SELECT position FROM plan.clips c WHERE {condition} ORDER BY random() LIMIT ?)",
            (num,),
        )
        return [_planned(row) for row in rows]

    def beside(self, video_uris: Collection[str]) -> list[PlannedClip]:
        """The present clips of these videos."""
        if not video_uris:
            return []
        marks = ", ".join("?" * len(video_uris))
        condition = f"c.state = {State.PRESENT:d} AND c.video_uri IN ({marks})"
        return list(self._clips(condition, tuple(video_uris)))

    def unchecked_rows(self) -> Iterator[list[Row]]:
        """Pages of the rows of `num_unchecked`."""
        return self.rows.pages(f"SELECT c.clip_id, c.clip_key FROM plan.clips c WHERE {_UNCHECKED}")

    def rows_of(self, clip_ids: Iterable[str]) -> list[Row]:
        """The rows that these clips should have."""
        query = "SELECT clip_key FROM plan.clips WHERE clip_id = ?"
        return [
            Row(clip_id=clip_id, clip_key=key)
            for clip_id in clip_ids
            for (key,) in self._database.execute(query, (clip_id,)).fetchall()
        ]

    def has(self, clip_id: str) -> bool:
        """Whether it is one of the planned clips."""
        query = "SELECT 1 FROM plan.clips WHERE clip_id = ?"
        return self._database.execute(query, (clip_id,)).fetchone() is not None

    def is_readable(self, clip_id: str) -> bool:
        """False for a clip whose video is not there at the moment."""
        query = f"SELECT 1 FROM plan.clips WHERE clip_id = ? AND state = {State.UNREADABLE:d}"
        return self._database.execute(query, (clip_id,)).fetchone() is None

    def ids(self, state: State) -> Iterator[str]:
        """Of the clips in a state, in the order of the archive."""
        query = "SELECT clip_id FROM plan.clips WHERE state = ? ORDER BY position"
        yield from (clip_id for (clip_id,) in self._database.execute(query, (state,)))

    def unexplained(self, explained_ids: Iterable[str]) -> Iterator[PlannedClip]:
        """Clips that cannot be read, but for these."""
        self._database.execute("DROP TABLE IF EXISTS plan.explained")
        self._database.execute("CREATE TABLE plan.explained (clip_id TEXT PRIMARY KEY) WITHOUT ROWID")  # fmt: skip
        rows = ((clip_id,) for clip_id in explained_ids)
        self._apply("INSERT OR IGNORE INTO plan.explained VALUES (?)", rows)
        return self._clips(
            f"c.state = {State.UNREADABLE:d} AND NOT EXISTS (SELECT 1 FROM plan.explained e WHERE e.clip_id = c.clip_id)"
        )

    def dead_by_reason(self) -> dict[str, int]:
        """Number of `dead_letters` by reason, most first."""
        query = f"""SELECT reason, COUNT(*) FROM (
                SELECT o.reason FROM plan.clips c JOIN outcomes o ON {_IS_OWN_OUTCOME} WHERE c.state = {State.DEAD:d}
                UNION ALL SELECT 'fetch_failed' FROM plan.clips WHERE state = {State.UNREADABLE:d}
            ) GROUP BY reason ORDER BY 2 DESC, 1"""
        return dict(self._database.execute(query).fetchall())

    def id_pages(self) -> Iterator[list[str]]:
        """The ids of all clips, some hundred at a time."""
        query = (
            "SELECT position, clip_id FROM plan.clips WHERE position > ? ORDER BY position LIMIT ?"
        )
        for page in self._paged(query, size=_IDS_PER_PAGE):
            yield [clip_id for _, clip_id in page]

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Clips of the archive that have no row for a reason, from this run or an earlier one, by clip id."""
        query = f"""SELECT c.clip_id, c.video_uri, o.stage, o.reason, o.detail FROM plan.clips c JOIN outcomes o ON {_IS_OWN_OUTCOME}
            WHERE c.state = {State.DEAD:d}
            UNION ALL SELECT clip_id, video_uri, 'plan', 'fetch_failed', problem FROM plan.clips
            WHERE state = {State.UNREADABLE:d} ORDER BY 1"""
        for clip_id, video_uri, *error in self._database.execute(query):
            stage, reason, detail = error
            cause = ClipError(stage=stage, reason=reason, detail=detail)
            yield DeadLetter(clip_id=clip_id, video_uri=video_uri, error=cause)

    def _clips(self, condition: str, values: Sequence[str] = ()) -> Iterator[PlannedClip]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM plan.clips c WHERE c.position > ? AND {condition} ORDER BY c.position LIMIT ?"
        for page in self._paged(query, values):
            yield from map(_planned, page)


@lru_cache(maxsize=65_536)
def _attributes_text(attributes: tuple[tuple[str, str], ...]) -> str:
    """Of many clips the same."""
    return json.dumps(dict(attributes)) if attributes else ""


@lru_cache(maxsize=65_536)
def _attributes_of(text: str) -> dict[str, str]:
    return json.loads(text) if text else {}


def _planned(row: Sequence[Any]) -> PlannedClip:
    _, clip_id, clip_key, video_uri, start_s, end_s, label, split, attributes, *content = row
    content_hash, size_bytes, mtime_ns, version, problem = content
    stamp = None
    if size_bytes is not None:
        stamp = FileStamp(size_bytes=size_bytes, mtime_ns=mtime_ns, version=version)
    clip = Clip(
        clip_id=clip_id,
        video_uri=video_uri,
        start_s=start_s,
        end_s=end_s,
        label=label,
        split=split,
        attributes=_attributes_of(attributes),
    )
    return PlannedClip(
        clip=clip, clip_key=clip_key, content_hash=content_hash, stamp=stamp, problem=problem
    )
