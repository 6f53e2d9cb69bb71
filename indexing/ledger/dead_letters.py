"""dead_letters.parquet of a run folder: the clips of its archive that have no row, with the reasons."""

import logging
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import atomic_path
from encoders.files import read_table
from encoders.stages.base import DEAD_LETTER_COLUMNS, DeadLetter

logger = logging.getLogger(__name__)
DEAD_LETTERS = "dead_letters.parquet"
_SCHEMA = pa.schema([(name, pa.string()) for name in DEAD_LETTER_COLUMNS])
_AT_ONCE = 4096


def write_dead_letters(run_dir: str | Path, letters: Iterable[DeadLetter]) -> Path:
    """All dead letters of the archive as it stands, not only those of the last run."""
    path, rows = Path(run_dir) / DEAD_LETTERS, (letter.to_columns() for letter in letters)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as writer:
        while part := list(islice(rows, _AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(part, schema=_SCHEMA))
    return path


def read_dead_letters(run_dir: str | Path) -> list[DeadLetter]:
    """As `write_dead_letters` left them; none where there is no such file, or a damaged one."""
    path = Path(run_dir) / DEAD_LETTERS
    if not path.exists():
        return []
    try:
        table = read_table(path, _SCHEMA.names)
    except ValueError as error:
        logger.warning("%s; passed over, `tfcovr index` writes it anew", error)
        return []
    return [DeadLetter.from_columns(row) for row in table.to_pylist()]
