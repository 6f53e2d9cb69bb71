from pathlib import Path

import pytest

from indexing.sources import asked_counts
from indexing.sources.asked_counts import AskedCounts, read_asked_counts


def test_counts_of_several_processes_are_added_and_outlive_them(tmp_path: Path) -> None:
    first, second = AskedCounts(tmp_path / "asked"), AskedCounts(tmp_path / "asked")
    first.add(["a", "b", ""])
    first.write()
    with second.written(every_s=60):
        first.add(["a"])
        first.write()
        second.add(["a", "c"])
    assert read_asked_counts(tmp_path / "asked") == {"a": 3, "b": 1, "c": 1}


def test_what_is_asked_while_the_file_is_written_is_in_the_next_one(tmp_path, monkeypatch) -> None:
    counts = AskedCounts(tmp_path)
    counts.add(["a"])
    write_table = asked_counts.pq.write_table

    def slow(table, path) -> None:
        counts.add(["b"])
        write_table(table, path)

    with monkeypatch.context() as patched:
        patched.setattr(asked_counts.pq, "write_table", slow)
        counts.write()
    assert read_asked_counts(tmp_path) == {"a": 1}
    counts.write()
    assert read_asked_counts(tmp_path) == {"a": 1, "b": 1}


def test_a_write_that_failed_is_tried_again(tmp_path, monkeypatch) -> None:
    counts = AskedCounts(tmp_path)
    counts.add(["a"])

    def fail(*_args) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(asked_counts.pq, "write_table", fail)
        with pytest.raises(OSError, match="no space"):
            counts.write()
    counts.write()
    assert read_asked_counts(tmp_path) == {"a": 1}


def test_nothing_is_written_before_something_is_asked(tmp_path: Path) -> None:
    AskedCounts(tmp_path).write()
    with pytest.raises(ValueError, match="it must be a folder that `tfcovr serve --asked` wrote"):
        read_asked_counts(tmp_path)


def test_another_folder_and_another_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing"):
        read_asked_counts(tmp_path / "missing")
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"x\.parquet"):
        read_asked_counts(tmp_path)


def test_the_number_of_clips_is_bounded_and_the_most_asked_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(asked_counts, "_MOST_CLIPS", 10)
    counts = AskedCounts(tmp_path)
    counts.add(["often"] * 3)
    counts.add(f"once-{i}" for i in range(50))
    counts.write()
    kept = read_asked_counts(tmp_path)
    assert len(kept) <= 10
    assert kept["often"] == 3


def test_a_folder_that_takes_nothing_costs_the_counts_alone(tmp_path, monkeypatch) -> None:
    counts = AskedCounts(tmp_path)

    def fail() -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(counts, "write", fail)
    with counts.written(every_s=60):
        counts.add(["a"])
