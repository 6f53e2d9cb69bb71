from pathlib import Path

import pytest

from encoders.stages.base import ClipError, DeadLetter
from indexing.ledger.dead_letters import read_dead_letters, write_dead_letters

TOO_SHORT = ClipError(stage="decode", reason="too_short", detail="1 frame")


def letter(name: str) -> DeadLetter:
    return DeadLetter(clip_id=name, video_uri="/v.mp4", error=TOO_SHORT)


def test_dead_letters_are_a_parquet_table_even_when_there_are_none(tmp_path: Path) -> None:
    letters = [letter(f"{n:05}") for n in range(5000)]
    write_dead_letters(tmp_path, iter(letters))
    assert read_dead_letters(tmp_path) == letters
    write_dead_letters(tmp_path, [])
    assert read_dead_letters(tmp_path) == []


@pytest.mark.parametrize("damage", [lambda _: b"", lambda c: c[:-9], lambda _: b"hello", lambda c: c[:9] + bytes(60) + c[69:]])  # fmt: skip
def test_damaged_dead_letters_are_named_and_passed_over(tmp_path: Path, caplog, damage) -> None:
    path = write_dead_letters(tmp_path, [letter("a")])
    path.write_bytes(damage(path.read_bytes()))
    assert read_dead_letters(tmp_path) == []
    assert str(path) in caplog.records[0].getMessage()
