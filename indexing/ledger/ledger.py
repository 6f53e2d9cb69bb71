"""The ledger of a run folder: the outcome of each clip by its key, written after Milvus has the row, read back by the next run.

It is a SQLite database with a write-ahead log: a batch is in it wholly or not at all, whatever is killed, and others may read while
a run writes. Tables come out as Arrow batches, never as a whole. A damaged database is named, what can be read of it goes into a
new one, and Milvus and the videos know the rest, so that the next `tfcovr index` writes it anew. Ray Data's own checkpoints do not
serve here: they need one id that a row keeps from reading to writing, and the row of a video becomes rows of clips, some of them
with errors; and they believe their files where Milvus can be asked.
"""

import errno
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import write_atomic
from encoders.files import read_table
from encoders.stages.base import DEAD_LETTER_COLUMNS, ClipError, DeadLetter
from indexing.ledger.earlier_lines import earlier_contents, earlier_outcomes
from indexing.sources.content import Content, FileStamp

logger = logging.getLogger(__name__)
_ERROR = ("stage", "reason", "detail")
OUTCOMES_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_key", "clip_id", "video_uri", "row_digest", *_ERROR)]
)
"""`reason` is "" where the clip is in the collection."""
CONTENTS_SCHEMA = pa.schema(
    [
        ("video_uri", pa.string()),
        ("content_hash", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("version", pa.string()),
    ]
)
DEAD_LETTERS = "dead_letters.parquet"
DEAD_LETTERS_SCHEMA = pa.schema([(name, pa.string()) for name in DEAD_LETTER_COLUMNS])
_SCHEMAS = {"outcomes": OUTCOMES_SCHEMA, "contents": CONTENTS_SCHEMA}
_ROWS_AT_ONCE = 16_384
_KEYS_AT_ONCE = 512
_CACHE_KIB = 16 * 1024
_BUSY_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of one clip: written into the collection, or failed for good with an error."""

    clip_key: str
    clip_id: str
    video_uri: str
    row_digest: str = ""
    """Of what Milvus stores beside the vector; "" when that is not known."""
    error: ClipError | None = None


def ledger_path(run_dir: str | Path) -> Path:
    """The database of a run folder."""
    return Path(run_dir) / "ledger" / "ledger.sqlite"


def count_outcomes(run_dir: str | Path) -> int:
    """Number of clips with an outcome, also while another process writes; 0 without a ledger."""
    path = ledger_path(run_dir)
    if not path.exists():
        return 0
    with suppress(sqlite3.OperationalError), closing(_connect(path)) as database:  # no table yet
        return database.execute("SELECT count(*) FROM outcomes").fetchone()[0]
    return 0


class Ledger:
    """The ledger of one run folder; one process at a time writes it.

    Reading a folder without a ledger makes none. OSError where the database cannot be read or written, a full disk for one.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._path = ledger_path(run_dir)
        self._database: sqlite3.Connection | None = None
        if self._path.exists():
            self._open()
        self._take_earlier()

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Durable when this returns; replaces what was recorded of the same keys."""
        self._put("outcomes", map(_row_of, outcomes))

    def outcomes(self) -> Iterator[pa.RecordBatch]:
        """Every outcome, in batches of OUTCOMES_SCHEMA in the order of their keys."""
        return self._batches("outcomes")

    def find(self, clip_keys: Sequence[str]) -> dict[str, Outcome]:
        """The outcomes of these keys, of those that have one."""
        if self._database is None:
            return {}
        found: dict[str, Outcome] = {}
        for first in range(0, len(clip_keys), _KEYS_AT_ONCE):
            part = list(clip_keys[first : first + _KEYS_AT_ONCE])
            marks = ", ".join("?" * len(part))
            with self._errors():
                rows = self._database.execute(
                    f"SELECT * FROM outcomes WHERE clip_key IN ({marks})",
                    part,
                ).fetchall()
            found |= {row[0]: _outcome_of(row) for row in rows}
        return found

    def dead_keys(self) -> set[str]:
        """Keys of clips that failed for good."""
        if self._database is None:
            return set()
        with self._errors():
            rows = self._database.execute("SELECT clip_key FROM outcomes WHERE reason <> ''")
            return {key for (key,) in rows}

    def forget(self, clip_keys: Iterable[str]) -> None:
        """For keys whose rows were deleted."""
        self._delete("DELETE FROM outcomes WHERE clip_key = ?", clip_keys)

    def contents(self) -> Iterator[pa.RecordBatch]:
        """What the videos contained when they were last read, in batches of CONTENTS_SCHEMA in the order of their URIs."""
        return self._batches("contents")

    def read_contents(self) -> dict[str, Content]:
        """`contents` by URI, all at once."""
        return {
            row["video_uri"]: Content(
                content_hash=row["content_hash"],
                stamp=FileStamp(
                    size_bytes=row["size_bytes"], mtime_ns=row["mtime_ns"], version=row["version"]
                ),
            )
            for batch in self.contents()
            for row in batch.to_pylist()
        }

    def keep_contents(self, contents: Mapping[str, Content]) -> None:
        """Keep the hashes of the files among these that could be read; durable when this returns."""
        rows = [
            (uri, one.content_hash, one.stamp.size_bytes, one.stamp.mtime_ns, one.stamp.version)
            for uri, one in contents.items()
            if one.stamp is not None and not one.problem
        ]
        self._put("contents", rows)

    def forget_contents(self, video_uris: Iterable[str]) -> None:
        """Of videos that the archive does not have any more, or that cannot be read."""
        self._delete("DELETE FROM contents WHERE video_uri = ?", video_uris)

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            try:
                self._database = _sound_database(self._path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._database = _rebuilt(self._path, error)
        return self._database

    def _take_earlier(self) -> None:
        """Move the lines of a run folder of an earlier version into the database."""
        folder = self._path.parent
        outcomes, contents = earlier_outcomes(folder), earlier_contents(folder)
        while lines := list(islice(outcomes, _ROWS_AT_ONCE)):
            self.record([Outcome(**fields) for fields in lines])
        while part := list(islice(contents, _ROWS_AT_ONCE)):
            self.keep_contents(
                {
                    uri: Content(content_hash=content_hash, stamp=FileStamp(**stamp))
                    for uri, content_hash, stamp in part
                }
            )
        for path in folder.glob("*.jsonl"):
            path.unlink()

    def _put(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        if not (rows := list(rows)):
            return
        marks = ", ".join("?" * len(_SCHEMAS[table]))
        database = self._open()
        with self._errors(), database:
            database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)

    def _delete(self, statement: str, values: Iterable[str]) -> None:
        if self._database is None:
            return
        with self._errors(), self._database:
            self._database.executemany(statement, ((value,) for value in values))

    def _batches(self, table: str) -> Iterator[pa.RecordBatch]:
        if self._database is None:
            return
        schema = _SCHEMAS[table]
        with self._errors():
            cursor = self._database.execute(f"SELECT * FROM {table} ORDER BY 1")
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                columns = zip(*rows, strict=True)
                yield pa.record_batch(
                    [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
                    schema=schema,
                )  # fmt: skip

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = f"ledger {self._path}: {error}"
            is_full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
            raise (OSError(errno.ENOSPC, text) if is_full else OSError(text)) from error


def write_dead_letters(run_dir: str | Path, letters: Sequence[DeadLetter]) -> Path:
    """All dead letters of the archive as it stands, not only those of the last run."""
    rows = [letter.to_columns() for letter in sorted(letters, key=lambda letter: letter.clip_id)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=DEAD_LETTERS_SCHEMA), sink)
    path = Path(run_dir) / DEAD_LETTERS
    write_atomic(path, sink.getvalue().to_pybytes())
    return path


def read_dead_letters(run_dir: str | Path) -> list[DeadLetter]:
    """As `write_dead_letters` left them; none where there is no such file, or a damaged one."""
    path = Path(run_dir) / DEAD_LETTERS
    if not path.exists():
        return []
    try:
        table = read_table(path, DEAD_LETTERS_SCHEMA.names)
    except ValueError as error:
        logger.warning("%s; passed over, `tfcovr index` writes it anew", error)
        return []
    return [DeadLetter.from_columns(row) for row in table.to_pylist()]


def _connect(path: Path) -> sqlite3.Connection:
    # A generator that reads may end in another thread than the one it began in, never in two at once.
    database = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return database


def _sound_database(path: Path) -> sqlite3.Connection:
    """Opened, with its tables. sqlite3.DatabaseError where it is damaged."""
    database = _connect(path)
    try:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict.replace("\n", " "))
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # a batch survives a crash of the machine
        for table, schema in _SCHEMAS.items():
            types = {pa.string(): "TEXT NOT NULL", pa.int64(): "INTEGER NOT NULL"}
            fields = ", ".join(f"{field.name} {types[field.type]}" for field in schema)
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({fields}, PRIMARY KEY ({schema.names[0]})) WITHOUT ROWID, STRICT"
            )
    except sqlite3.Error:
        database.close()
        raise
    return database


def _rebuilt(path: Path, error: sqlite3.DatabaseError) -> sqlite3.Connection:
    """A new database with what can be read of a damaged one, which stays beside it under another name."""
    aside = path.with_suffix(".damaged")
    logger.warning(
        "%s is damaged (%s); passed over, `tfcovr index` writes anew what Milvus and the videos tell. It is kept as %s",
        path,
        error,
        aside,
    )
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    database = _sound_database(path)
    # From both ends to the damage.
    for table, schema in _SCHEMAS.items():
        marks = ", ".join("?" * len(schema))
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.Error), closing(_connect(aside)) as damaged:
                damaged.text_factory = lambda data: data.decode(errors="replace")
                # What came before the damage is kept: the error does not reach the transaction.
                with database, suppress(sqlite3.Error):
                    for row in damaged.execute(f"SELECT * FROM {table} ORDER BY 1 {order}"):
                        database.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
    return database


def _row_of(outcome: Outcome) -> tuple[str, ...]:
    error = outcome.error or ClipError(stage="", reason="", detail="")
    return (
        outcome.clip_key,
        outcome.clip_id,
        outcome.video_uri,
        outcome.row_digest,
        error.stage,
        error.reason,
        error.detail,
    )


def _outcome_of(row: Sequence[str]) -> Outcome:
    key, clip_id, video_uri, row_digest, stage, reason, detail = row
    return Outcome(
        clip_key=key,
        clip_id=clip_id,
        video_uri=video_uri,
        row_digest=row_digest,
        error=ClipError(stage=stage, reason=reason, detail=detail) if reason else None,
    )
