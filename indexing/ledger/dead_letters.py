"""dead_letters.parquet of a run folder: the clips of its archive that have no row, with the reasons."""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import atomic_path
from encoders.files import open_table
from encoders.stages.base import DEAD_LETTER_COLUMNS, DeadLetter

logger = logging.getLogger(__name__)
DEAD_LETTERS = "dead_letters.parquet"
_SCHEMA = pa.schema([(name, pa.string()) for name in DEAD_LETTER_COLUMNS])
_AT_ONCE = 4096


def write_dead_letters(
    run_dir: str | Path,
    letters: Iterable[DeadLetter],
    *,
    is_other: Callable[[str], bool] | None = None,
) -> Path:
    """All dead letters of the archive as it stands, not only those of the last run.

    `is_other` tells which clip ids these letters say nothing of: what was written of those stays.
    """
    path = Path(run_dir) / DEAD_LETTERS
    earlier = iter_dead_letters(run_dir) if is_other else iter(())
    kept = (letter for letter in earlier if is_other and is_other(letter.clip_id))
    rows = (letter.to_columns() for letter in chain(letters, kept))
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as writer:
        while part := list(islice(rows, _AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(part, schema=_SCHEMA))
    return path


def iter_dead_letters(run_dir: str | Path) -> Iterator[DeadLetter]:
    """As `write_dead_letters` left them; none where there is no such file, and no more where it is damaged."""
    path = Path(run_dir) / DEAD_LETTERS
    if not path.exists():
        return
    try:
        with open_table(path, _SCHEMA.names) as file:
            for batch in file.iter_batches(_AT_ONCE):
                yield from map(DeadLetter.from_columns, batch.to_pylist())
    except ValueError as error:
        logger.warning("%s; passed over, `tfcovr index` writes it anew", error)


def read_dead_letters(run_dir: str | Path) -> list[DeadLetter]:
    """All of `iter_dead_letters`."""
    return list(iter_dead_letters(run_dir))
