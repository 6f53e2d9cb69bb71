"""The rows of an archive in the collection, as a table on disk beside the planned clips: which are stale, orphaned or doubled."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import Any

from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import transaction

PAGE = 2000
SCHEMA = "CREATE TABLE plan.rows (clip_id TEXT, clip_key TEXT);"
_STALE = (
    "SELECT r.clip_id, r.clip_key FROM plan.rows r JOIN plan.clips c ON r.clip_id = c.clip_id "
    "WHERE r.clip_key != c.clip_key"
)
_ORPHANED = (
    "SELECT DISTINCT clip_id, clip_key FROM plan.rows r WHERE NOT EXISTS "
    "(SELECT 1 FROM plan.clips c WHERE c.clip_id = r.clip_id)"
)


class State(IntEnum):
    """Every planned clip is in exactly one."""

    MISSING = 0
    """Has no row, and no reason for it."""
    PRESENT = 1
    DEAD = 2
    """Failed for good with this very content."""
    UNREADABLE = 3
    """The video is not there at the moment; a row of former content is kept and is not stale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the collection."""

    clip_id: str
    clip_key: str


_HAS_OUTCOME = f"c.state IN ({State.PRESENT:d}, {State.DEAD:d})"


class PlanTables:
    """Tables of the attached database `plan`, whose file is `path`."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path

    def _apply(self, query: str, rows: Iterable[Sequence[Any]] = ((),)) -> None:
        """One transaction, however many rows."""
        with transaction(self._database, self._path) as database:
            database.executemany(query, rows)

    def _number(self, query: str, values: Sequence[int] = ()) -> int:
        return self._database.execute(query, values).fetchone()[0]

    def _paged(
        self, query: str, values: Sequence[str] = (), size: int = PAGE
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Pages of a query whose first column is above its first parameter and in order, and whose last parameter is the size of a page:
        what is done between two pages may change the tables.
        """
        after = 0
        while page := self._database.execute(query, (after, *values, size)).fetchall():
            yield page
            after = page[-1][0]


class RowTable(PlanTables):
    """`plan.rows` of a database that has the planned clips, with their states, as `plan.clips`."""

    def read(self, rows: Iterable[tuple[str, str]], archive: ArchiveRows) -> None:
        """(clip_key, clip_id) of every row of the collection; those of other archives are passed over."""
        own = ((clip_id, key) for key, clip_id in rows if archive.owns(clip_id))
        self._database.execute("DROP INDEX IF EXISTS plan.rows_by_id")
        self._database.execute("DELETE FROM plan.rows")
        while part := list(islice(own, PAGE)):
            self._apply("INSERT INTO plan.rows VALUES (?, ?)", part)
        self._database.execute("CREATE INDEX plan.rows_by_id ON rows (clip_id, clip_key)")

    def forget(self, rows: Iterable[Row]) -> None:
        """Rows that were deleted."""
        keys = [(row.clip_id, row.clip_key) for row in rows]
        self._apply("DELETE FROM plan.rows WHERE clip_id = ? AND clip_key = ?", keys)

    def stale(self) -> Iterator[list[Row]]:
        """Rows of former content or span of clips that are present or dead."""
        return self.pages(f"{_STALE} AND {_HAS_OUTCOME}")

    def num_stale(self) -> int:
        """Of `stale`."""
        return self._number(f"SELECT COUNT(*) FROM ({_STALE} AND {_HAS_OUTCOME})")

    def stale_ids(self) -> Iterator[str]:
        """Clips with rows of former content or span, whether or not they have a new one."""
        return self._ids(f"{_STALE} AND c.state != {State.UNREADABLE:d}")

    def num_stale_clips(self) -> int:
        """Of `stale_ids`."""
        query = f"{_STALE} AND c.state != {State.UNREADABLE:d}"
        return self._number(f"SELECT COUNT(DISTINCT clip_id) FROM ({query})")

    def stale_of(self, clip_ids: Iterable[str]) -> list[Row]:
        """As `stale`, of these clips, whose new rows are in."""
        return [
            Row(clip_id=clip_id, clip_key=key)
            for wanted in dict.fromkeys(clip_ids)
            for clip_id, key in self._database.execute(f"{_STALE} AND c.clip_id = ?", (wanted,))
        ]

    def orphaned(self) -> Iterator[list[Row]]:
        """Rows whose clip the archive does not have."""
        return self.pages(_ORPHANED)

    def num_orphaned(self) -> int:
        """Of `orphaned`."""
        return self._number(f"SELECT COUNT(*) FROM ({_ORPHANED})")

    def orphaned_ids(self) -> Iterator[str]:
        """The clip ids of `orphaned`."""
        return self._ids(_ORPHANED)

    def require_few_orphans(self, max_share: float) -> None:
        """ValueError where the rows of clips that the archive does not have are more than a share of its rows."""
        require_few_orphans(
            self.num_orphaned(), self.num(), next(self.orphaned_ids(), ""), max_share
        )

    def num(self) -> int:
        """Rows of the archive, by key."""
        return self._number(
            "SELECT COUNT(*) FROM (SELECT DISTINCT clip_id, clip_key FROM plan.rows)"
        )

    def all(self) -> Iterator[list[Row]]:
        """Pages of all rows."""
        return self.pages("SELECT clip_id, clip_key FROM plan.rows")

    def add(self, rows: Iterable[Row]) -> None:
        """Rows with a key that others have."""
        keys = [(row.clip_id, row.clip_key) for row in rows]
        self._apply("INSERT INTO plan.rows VALUES (?, ?)", keys)

    def doubled(self) -> list[Row]:
        """Keys that more than one row has."""
        query = "SELECT clip_id, clip_key FROM plan.rows GROUP BY 1, 2 HAVING COUNT(*) > 1 ORDER BY clip_key"
        return [Row(clip_id=i, clip_key=key) for i, key in self._database.execute(query)]

    def pages(self, query: str) -> Iterator[list[Row]]:
        """Pages of a query for (clip_id, clip_key) as of its start: what is done between them may delete the rows."""
        self._database.execute("DROP TABLE IF EXISTS plan.listed")
        self._database.execute(f"CREATE TABLE plan.listed AS {query}")
        for page in self._paged(
            "SELECT rowid, clip_id, clip_key FROM plan.listed WHERE rowid > ? ORDER BY rowid LIMIT ?"
        ):
            yield [Row(clip_id=clip_id, clip_key=key) for _, clip_id, key in page]

    def _ids(self, query: str) -> Iterator[str]:
        """Of the rows of a query, sorted."""
        rows = self._database.execute(f"SELECT DISTINCT clip_id FROM ({query}) ORDER BY 1")
        yield from (clip_id for (clip_id,) in rows)


def require_few_orphans(num_orphans: int, num_rows: int, first: str, max_share: float) -> None:
    """ValueError where so many rows of clips that the archive does not have are more than a share of its rows."""
    if num_orphans > max_share * num_rows:
        raise ValueError(
            f"{num_orphans} of {num_rows} rows ({num_orphans / num_rows:.0%}) are of clips that --clips does not list, "
            f"first {first!r}; at most {max_share:.0%} are deleted: see that the list is whole, or raise --max-delete-share"
        )
