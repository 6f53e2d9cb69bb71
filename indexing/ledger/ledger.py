"""The ledger of a run folder: the outcome of each clip, written after Milvus has the row, and the content of each video.

One SQLite file, which needs no service: one process at a time writes it, a transaction that a kill interrupts never was, a key is
looked up without reading the others, and memory does not grow with the archive. (DuckDB and Polars join faster, and are not made for
a commit per batch.) Its write-ahead log needs memory that all processes share, which a network folder does not give: there it keeps a
rollback journal, which takes longer. A damaged file is named and moved aside: Milvus and the videos know what it said, so that the
next `tfcovr index` writes it anew. Ray Data's own checkpoints do not serve here: they need one id that a row keeps from reading to
writing, and the row of a video becomes rows of clips, some of them with errors; and they believe their files where Milvus can be asked.
"""

import errno
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args
from urllib.parse import quote

import numpy as np

from cluster.storage import is_full, is_network_folder
from encoders.media.errors import DecodeReason
from encoders.stages.base import ClipError, error_of
from indexing.sources.content import Content, FileStamp

logger = logging.getLogger(__name__)
LEDGER = "ledger.sqlite"
_IN_MEMORY = ":memory:"
_WAIT_S = 60.0
"""For another process's transaction: `tfcovr verify` reads while a run writes."""
_CACHE_KIB = 32 * 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
    clip_id TEXT, clip_key TEXT, video_uri TEXT, row_digest TEXT, stage TEXT, reason TEXT, detail TEXT,
    PRIMARY KEY (clip_id, clip_key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dead ON outcomes (clip_id, clip_key) WHERE stage IS NOT NULL;
CREATE TABLE IF NOT EXISTS contents (
    uri TEXT PRIMARY KEY, content_hash TEXT, size_bytes INTEGER, mtime_ns INTEGER, version TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unchecked (
    clip_id TEXT, clip_key TEXT, PRIMARY KEY (clip_id, clip_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS finished (only INTEGER PRIMARY KEY CHECK (only = 1), text TEXT);
CREATE TABLE IF NOT EXISTS mark (only INTEGER PRIMARY KEY CHECK (only = 1), text TEXT);
"""
"""`stage` NULL = written. `unchecked`: rows of a run whose vectors have not been compared with a sample computed again; one with empty
texts stands for all rows, since a damaged ledger knew which. `finished`: what a run saw that left nothing to do; any later change of
the ledger forgets it. `mark`: of the archive in the collection when this run folder last began to change rows."""
ALL_REASONS = "all"
REASONS: tuple[str, ...] = tuple(sorted(get_args(DecodeReason)))
_TABLES = {"outcomes", "contents", "unchecked", "finished", "mark"}
_LATER_TABLES = {"mark"}
"""A ledger of an earlier version lacks them until a run opens it."""
_OUTCOME = "clip_key, clip_id, video_uri, row_digest, stage, reason, detail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of one clip: written into the collection, or failed for good with an error."""

    clip_key: str
    clip_id: str
    video_uri: str
    row_digest: str = ""
    """Of what Milvus stores beside the vector; "" when that is not known."""
    error: ClipError | None = None


class Ledger:
    """The ledger of one run folder. Closing it turns errors of SQLite into OSErrors that name the file."""

    def __init__(self, run_dir: str | Path, *, reads_only: bool = False) -> None:
        """A reader changes nothing: it makes no file where there is none, and moves none."""
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / LEDGER
        self.was_damaged, self._reads_only = False, reads_only
        if reads_only and not self.path.exists():
            self.database = _open_new(_IN_MEMORY)
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        try:
            is_empty = self.path.exists() and self.path.stat().st_size == 0
            if is_empty:
                raise sqlite3.DatabaseError("it is empty")
            self.database = _open_to_read(self.path) if reads_only else _open_new(self.path)
        except sqlite3.OperationalError as error:  # locked, no room, no permission
            raise os_error(error, self.path) from error
        except sqlite3.DatabaseError as error:
            self.was_damaged = True
            logger.warning(
                "%s is damaged (%s); passed over, `tfcovr index` writes anew what Milvus and the videos tell",
                self.path,
                error,
            )
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Move the damaged file aside; in its place is a ledger that knows nothing."""
        if not self._reads_only:
            self.path.replace(self.path.with_name(f"{LEDGER}.damaged"))
            for ending in ("journal", "wal", "shm"):
                self.path.with_name(f"{LEDGER}-{ending}").unlink(missing_ok=True)
        self.database = _open_new(_IN_MEMORY if self._reads_only else self.path)
        self.database.execute("INSERT INTO unchecked VALUES ('', '')")

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Durable when this returns."""
        rows = []
        for outcome in outcomes:
            error = outcome.error
            said = (error.stage, error.reason, error.detail) if error else (None, None, None)
            known = (outcome.clip_key, outcome.clip_id, outcome.video_uri, outcome.row_digest)
            rows.append((*known, *said))
        with self._changing() as database:
            database.executemany(
                f"INSERT OR REPLACE INTO outcomes ({_OUTCOME}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )

    def outcome(self, clip_id: str, clip_key: str) -> Outcome | None:
        """The last one of a row; `clip_id` is the stored one."""
        row = self.database.execute(
            f"SELECT {_OUTCOME} FROM outcomes WHERE clip_id = ? AND clip_key = ?",
            (clip_id, clip_key),
        ).fetchone()
        return None if row is None else outcome_of_row(row)

    def outcomes(self) -> Iterator[Outcome]:
        """All of them, by clip id."""
        rows = self.database.execute(f"SELECT {_OUTCOME} FROM outcomes ORDER BY clip_id, clip_key")
        yield from map(outcome_of_row, rows)

    def forget(self, rows: Iterable[tuple[str, str]]) -> None:
        """(clip_id, clip_key) of rows that were deleted."""
        with self._changing() as database:
            database.executemany("DELETE FROM outcomes WHERE clip_id = ? AND clip_key = ?", rows)

    def contents(self, uris: Iterable[str]) -> dict[str, Content]:
        """What these videos contained when they were last read, of those that were."""
        contents: dict[str, Content] = {}
        for uri in uris:
            row = self.database.execute(
                "SELECT content_hash, size_bytes, mtime_ns, version FROM contents WHERE uri = ?",
                (uri,),
            ).fetchone()
            if row is not None:
                content_hash, size_bytes, mtime_ns, version = row
                stamp = FileStamp(size_bytes=size_bytes, mtime_ns=mtime_ns, version=version)
                contents[uri] = Content(content_hash=content_hash, stamp=stamp)
        return contents

    def keep_contents(self, contents: Mapping[str, Content]) -> None:
        """Keep the hashes of these files, of those that could be read; durable when this returns."""
        rows = [
            (uri, one.content_hash, one.stamp.size_bytes, one.stamp.mtime_ns, one.stamp.version)
            for uri, one in contents.items()
            if one.stamp is not None and not one.problem
        ]
        with self._changing() as database:
            database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", rows)

    def has_unchecked(self) -> bool:
        """Whether there are rows whose vectors were not compared with a sample computed again."""
        return self.database.execute("SELECT 1 FROM unchecked LIMIT 1").fetchone() is not None

    def knows_unchecked(self) -> bool:
        """False after a ledger was damaged: any row may be one."""
        query = "SELECT 1 FROM unchecked WHERE clip_id = '' AND clip_key = ''"
        return self.database.execute(query).fetchone() is None

    def clear_unchecked(self) -> None:
        """After the sample was compared."""
        with self._changing() as database:
            database.execute("DELETE FROM unchecked")

    def mark(self) -> str:
        """The mark of `begin`, or ""."""
        if "mark" not in _tables(self.database):
            return ""
        row = self.database.execute("SELECT text FROM mark").fetchone()
        return "" if row is None else row[0]

    def begin(self, mark: str, *, trusts: bool) -> None:
        """Rows begin to change under a mark; what the ledger says of their labels and file names is forgotten unless it is trusted."""
        with self._changing() as database:
            if not trusts:
                database.execute("UPDATE outcomes SET row_digest = '' WHERE stage IS NULL")
            database.execute("INSERT OR REPLACE INTO mark VALUES (1, ?)", (mark,))

    def finished(self) -> str:
        """What the last run saw where it left nothing to do, or ""."""
        row = self.database.execute("SELECT text FROM finished").fetchone()
        return "" if row is None else row[0]

    def finish(self, text: str) -> None:
        """Remember what a run saw that left nothing to do, until something changes."""
        with self._changing() as database:
            database.execute("INSERT INTO finished VALUES (1, ?)", (text,))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, which forgets what a finished run saw."""
        with transaction(self.database, self.path, kind="IMMEDIATE") as database:
            database.execute("DELETE FROM finished")
            yield database

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.close()
        cause = error.__cause__ if isinstance(error, OSError) else error
        # A text that is not UTF-8: no check of SQLite's sees it, and the next reader would meet it again.
        if isinstance(cause, sqlite3.OperationalError) and "decode to UTF-8" in str(cause):
            if not self._reads_only:
                self._begin_anew()
                self.close()
            raise OSError(
                errno.EIO,
                "damaged (a text is not UTF-8); run `tfcovr index` again, which writes anew what Milvus and the videos tell",
                str(self.path),
            ) from error
        if isinstance(error, sqlite3.Error):
            raise os_error(error, self.path) from error


@contextmanager
def transaction(
    database: sqlite3.Connection, path: Path, *, kind: str = "DEFERRED"
) -> Iterator[sqlite3.Connection]:
    """Everything in the block, or nothing; OSError where the file cannot be written."""
    try:
        database.execute(f"BEGIN {kind}")
        yield database
        database.execute("COMMIT")
    except sqlite3.Error as error:
        raise os_error(error, path) from error
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def os_error(error: sqlite3.Error, path: Path) -> OSError:
    """What happened to a file, as the system would say it."""
    has_no_room = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    with suppress(OSError):  # SQLite does not always say what the system said
        has_no_room = has_no_room or is_full(path.parent)
    if has_no_room:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return OSError(errno.EIO, str(error), str(path))


def _open_new(path: Path | str) -> sqlite3.Connection:
    """sqlite3.DatabaseError for a file that is damaged, or is no ledger."""
    database = _connect(path)
    try:
        is_local = path == _IN_MEMORY or not is_network_folder(path)
        database.execute(f"PRAGMA journal_mode = {'WAL' if is_local else 'TRUNCATE'}")
        database.execute("PRAGMA synchronous = FULL")
        if _TABLES - _tables(database):
            database.executescript(_SCHEMA)
        _require_sound(database)
    except BaseException:
        database.close()
        raise
    return database


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Beside a run that writes it; a folder without the right to write holds no run."""
    uri = f"file:{quote(str(path))}?mode=ro"
    try:
        database = _connect(uri)
        _tables(database)
    except sqlite3.OperationalError:
        if os.access(path.parent, os.W_OK):  # a run may be writing it
            raise
        database = _connect(f"{uri}&immutable=1")
    if not _tables(database) >= _TABLES - _LATER_TABLES:
        raise sqlite3.DatabaseError("it lacks tables")
    _require_sound(database)
    return database


def _connect(path: Path | str) -> sqlite3.Connection:
    # Calls come one after the other, from whichever thread runs the command.
    database = sqlite3.connect(
        path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False, uri=True
    )
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return database


def _tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def _require_sound(database: sqlite3.Connection) -> None:
    verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def outcome_of_row(row: Sequence[str | None]) -> Outcome:
    """Of the columns clip_key, clip_id, video_uri, row_digest, stage, reason, detail."""
    clip_key, clip_id, video_uri, row_digest, stage, reason, detail = row
    error = None
    if stage is not None:
        error = ClipError(stage=stage, reason=reason or "", detail=detail or "")
    return Outcome(
        clip_key=str(clip_key),
        clip_id=str(clip_id),
        video_uri=str(video_uri),
        row_digest=row_digest or "",
        error=error,
    )


def outcomes_of_batch(batch: Mapping[str, np.ndarray]) -> list[Outcome]:
    """One line per row that came out of the write stage."""
    return [
        Outcome(
            clip_key=str(batch["clip_key"][i]),
            clip_id=str(clip_id),
            video_uri=str(batch["video_uri"][i]),
            row_digest=str(batch["row_digest"][i]),
            error=error_of(error),
        )
        for i, (clip_id, error) in enumerate(zip(batch["clip_id"], batch["error"], strict=True))
    ]


def checked_reasons(reasons: Sequence[str]) -> tuple[str, ...]:
    """ValueError for a reason that no dead letter can have."""
    for reason in reasons:
        if reason not in (ALL_REASONS, *REASONS):
            raise ValueError(
                f"reason {reason!r} is unknown; choose of {', '.join((ALL_REASONS, *REASONS))}"
            )
    return tuple(reasons)
