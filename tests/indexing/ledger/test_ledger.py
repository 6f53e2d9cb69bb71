import json
from pathlib import Path

import pytest

from encoders.stages.base import ClipError, DeadLetter
from indexing.ledger.ledger import Ledger, Outcome, read_dead_letters, write_dead_letters
from indexing.sources.content import Content, FileStamp


def written(name: str, **changes) -> Outcome:
    fields = {
        "clip_key": f"key-{name}",
        "clip_id": name,
        "video_uri": "/v.mp4",
    }
    return Outcome(**(fields | changes))


TOO_SHORT = ClipError(stage="decode", reason="too_short", detail="1 frame")
DEAD = written("bad", error=TOO_SHORT)


def test_the_last_line_of_a_key_counts_and_survives_compaction(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record([written("a"), DEAD])
    ledger.record([written("bad")])
    ledger.record([DEAD, written("c")])
    ledger.forget(["key-a", "key-unknown"])
    ledger.compact()
    again = Ledger(tmp_path)
    assert again.outcomes == {"key-bad": DEAD, "key-c": written("c")}
    assert again.dead_keys() == {"key-bad"}
    assert len((tmp_path / "ledger" / "outcomes.jsonl").read_text().splitlines()) == 2


def test_the_lines_of_earlier_runs_are_read(tmp_path: Path) -> None:
    lines = [
        {"clip_key": "key-a", "clip_id": "a", "video_uri": "/v.mp4", "status": "written", "row_digest": "", "stage": "", "reason": "", "detail": ""},
        {"clip_key": "key-bad", "clip_id": "bad", "video_uri": "/v.mp4", "status": "dead", "row_digest": "", "stage": "decode", "reason": "too_short", "detail": "1 frame"},
    ]  # fmt: skip
    path = tmp_path / "ledger" / "outcomes.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ledger = Ledger(tmp_path)
    assert ledger.outcomes == {"key-a": written("a"), "key-bad": DEAD}
    ledger.compact()
    assert [json.loads(line) for line in path.read_text().splitlines()] == lines


@pytest.mark.parametrize("num_bytes", [1, 40])
def test_a_torn_line_is_forgotten_and_spoils_nothing(tmp_path: Path, num_bytes: int) -> None:
    ledger = Ledger(tmp_path)
    ledger.record([written("a"), written("b")])
    path = tmp_path / "ledger" / "outcomes.jsonl"
    path.write_bytes(path.read_bytes()[:-num_bytes])
    again = Ledger(tmp_path)
    assert set(again.outcomes) == {"key-a"}
    again.record([written("c")])
    assert set(Ledger(tmp_path).outcomes) == {"key-a", "key-c"}


def test_contents_come_back_without_those_that_could_not_be_read(tmp_path: Path) -> None:
    stamp = FileStamp(size_bytes=5, mtime_ns=1_700_000_000_123_456_789)
    good = Content(content_hash="ab", stamp=stamp)
    ledger = Ledger(tmp_path)
    ledger.write_contents(
        {"/a.mp4": good, "/b.mp4": Content(content_hash="", stamp=None, problem="gone")}
    )
    assert ledger.read_contents() == {"/a.mp4": good}


def test_dead_letters_are_a_parquet_table_even_when_there_are_none(tmp_path: Path) -> None:
    letters = [DeadLetter(clip_id=name, video_uri="/v.mp4", error=TOO_SHORT) for name in ("b", "a")]
    write_dead_letters(tmp_path, letters)
    assert read_dead_letters(tmp_path) == letters[::-1]
    write_dead_letters(tmp_path, [])
    assert read_dead_letters(tmp_path) == []


DAMAGED = [
    b'{"clip_key": "key-b", "clip_id": "b", "vid',
    b"\xff\xfe\x00garbage",
    b'{"clip_key": "x"}',
    b"[1, 2]",
    b"null",
    b"[" * 200_000,
    b'{"clip_key": ["key-b"], "clip_id": "b", "video_uri": "/v.mp4", "status": "written", "row_digest": "", "stage": "", "reason": "", "detail": ""}',
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_is_named_and_passed_over(tmp_path: Path, caplog, damaged: bytes) -> None:
    Ledger(tmp_path).record([written("a"), written("b"), DEAD])
    path = tmp_path / "ledger" / "outcomes.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damaged, lines[2], b""]))
    ledger = Ledger(tmp_path)
    assert ledger.outcomes == {"key-a": written("a"), "key-bad": DEAD}
    assert ledger.num_damaged == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"{path}: line 2 " in message
    ledger.record([written("b")])
    ledger.compact()
    caplog.clear()
    assert set(Ledger(tmp_path).outcomes) == {"key-a", "key-b", "key-bad"}
    assert caplog.records == []


@pytest.mark.parametrize("damaged", [*DAMAGED[:-1], b'{"uri": "/b.mp4", "content_hash": 5, "size_bytes": 1, "mtime_ns": 1}'])  # fmt: skip
def test_contents_lose_only_a_damaged_line(tmp_path: Path, caplog, damaged: bytes) -> None:
    good = Content(content_hash="ab", stamp=FileStamp(size_bytes=5, mtime_ns=1))
    ledger = Ledger(tmp_path)
    ledger.write_contents({"/a.mp4": good, "/b.mp4": good, "/c.mp4": good})
    path = tmp_path / "ledger" / "contents.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damaged, lines[2], b""]))
    assert ledger.read_contents() == {"/a.mp4": good, "/c.mp4": good}
    assert f"{path}: line 2 " in caplog.records[0].getMessage()


@pytest.mark.parametrize("damage", [lambda _: b"", lambda c: c[:-9], lambda _: b"hello", lambda c: c[:9] + bytes(60) + c[69:]])  # fmt: skip
def test_damaged_dead_letters_are_named_and_passed_over(tmp_path: Path, caplog, damage) -> None:
    letters = [DeadLetter(clip_id="a", video_uri="/v.mp4", error=TOO_SHORT)]
    path = write_dead_letters(tmp_path, letters)
    path.write_bytes(damage(path.read_bytes()))
    assert read_dead_letters(tmp_path) == []
    assert str(path) in caplog.records[0].getMessage()
