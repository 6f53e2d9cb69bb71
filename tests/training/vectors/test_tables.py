"""Tables of training: whole or not at all, and what died beside what lives."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.stages.base import ClipError, DeadLetter
from training.vectors import tables
from training.vectors.tables import read_dead_ids, write_dead_letters, write_table


def letter(clip_id: str) -> DeadLetter:
    return DeadLetter(clip_id=clip_id, video_uri="/v.mp4", error=ClipError(stage="decode", reason="too_short", detail="1 frame"))  # fmt: skip


def test_dead_letters_come_back_in_the_order_of_their_clips(tmp_path) -> None:
    vectors = tmp_path / "run" / "vectors.parquet"
    write_dead_letters(vectors, [letter("b"), letter("a")])
    table = pq.ParquetFile(tmp_path / "run" / "vectors.dead.parquet").read()
    assert table["clip_id"].to_pylist() == ["a", "b"]
    assert table["reason"].to_pylist() == ["too_short"] * 2
    assert read_dead_ids(vectors) == {"a", "b"}


def test_where_nothing_died_there_is_no_file_and_an_old_one_is_emptied(tmp_path) -> None:
    vectors = tmp_path / "vectors.parquet"
    write_dead_letters(vectors, [])
    assert list(tmp_path.iterdir()) == []
    assert read_dead_ids(vectors) == frozenset()
    write_dead_letters(vectors, [letter("a")])
    write_dead_letters(vectors, [])
    assert read_dead_ids(vectors) == frozenset()


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, pa.table({"x": [1]}))

    def torn(_path, content) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tables, "write_atomic", torn)
    with pytest.raises(OSError, match="no space"):
        write_table(path, pa.table({"x": [2]}))
    assert pq.ParquetFile(path).read()["x"].to_pylist() == [1]
