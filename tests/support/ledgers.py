"""What a run has recorded so far, read while it goes on."""

import sqlite3
from contextlib import closing
from pathlib import Path

from indexing.ledger.ledger import LEDGER


def num_recorded(run_dir: Path) -> int:
    """Number of outcomes in the ledger of a run folder."""
    path = run_dir / LEDGER
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            return database.execute("SELECT COUNT(*) FROM outcomes").fetchone()[0]
    except sqlite3.OperationalError:  # before its tables are made
        return 0
