import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from encoders.stages.base import ClipError, DeadLetter
from indexing.ledger.ledger import (
    Ledger,
    Outcome,
    count_outcomes,
    ledger_path,
    read_dead_letters,
    write_dead_letters,
)
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


def outcomes_of(run_dir: Path) -> dict[str, Outcome]:
    ledger = Ledger(run_dir)
    keys = [key for batch in ledger.outcomes() for key in batch["clip_key"].to_pylist()]
    return ledger.find(keys)


def test_the_last_outcome_of_a_key_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record([written("a"), DEAD])
    ledger.record([written("bad")])
    ledger.record([DEAD, written("c")])
    ledger.forget(["key-a", "key-unknown"])
    assert outcomes_of(tmp_path) == {"key-bad": DEAD, "key-c": written("c")}
    assert Ledger(tmp_path).dead_keys() == {"key-bad"}
    assert count_outcomes(tmp_path) == 2


def test_a_folder_without_a_ledger_gets_none_by_being_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    assert (list(ledger.outcomes()), ledger.find(["a"]), count_outcomes(tmp_path)) == ([], {}, 0)
    ledger.forget(["a"])
    assert list(tmp_path.iterdir()) == []


def test_the_lines_of_earlier_runs_are_taken_over_once(tmp_path: Path, caplog) -> None:
    lines = [
        {"clip_key": "key-a", "clip_id": "a", "video_uri": "/v.mp4", "status": "written", "row_digest": "", "stage": "", "reason": "", "detail": ""},
        {"clip_key": "key-bad", "clip_id": "bad", "video_uri": "/v.mp4", "status": "dead", "row_digest": "", "stage": "decode", "reason": "too_short", "detail": "1 frame"},
    ]  # fmt: skip
    path = tmp_path / "ledger" / "outcomes.jsonl"
    path.parent.mkdir()
    texts = [json.dumps(line).encode() for line in lines]
    path.write_bytes(
        b"\n".join([texts[0], b"\xff\xfe\x00garbage", b"[" * 200_000, texts[1], texts[1][:40]])
    )
    stamp = {"size_bytes": 5, "mtime_ns": 1}
    contents = [json.dumps({"uri": "/a.mp4", "content_hash": "ab", **stamp}), "[1, 2]", ""]
    path.with_name("contents.jsonl").write_text("\n".join(contents))
    assert outcomes_of(tmp_path) == {"key-a": written("a"), "key-bad": DEAD}
    assert f"{path}: line 2 " in caplog.text
    assert "and 1 more are damaged" in caplog.text
    known = Content(content_hash="ab", stamp=FileStamp(**stamp))
    assert Ledger(tmp_path).read_contents() == {"/a.mp4": known}
    assert [one.name for one in path.parent.glob("*.jsonl")] == []


def test_others_may_read_while_it_is_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record([written("a")])
    with ledger._database:  # a transaction that has not ended
        ledger._database.execute("DELETE FROM outcomes")
        assert outcomes_of(tmp_path) == {"key-a": written("a")}
    assert outcomes_of(tmp_path) == {}


KILLED = """
import os, signal, sys
from indexing.ledger.ledger import Ledger, Outcome
ledger = Ledger(sys.argv[1])
for n in range(10**6):
    ledger.record([Outcome(clip_key=f"{n}-{i}", clip_id="c", video_uri="/v") for i in range(50)])
    print(n, flush=True)
"""


def test_a_batch_is_in_wholly_or_not_at_all_when_the_process_is_killed(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.kill()
    numbers = [int(key.partition("-")[0]) for key in outcomes_of(tmp_path)]
    assert max(numbers) >= told
    assert sorted(numbers) == [n for n in range(max(numbers) + 1) for _ in range(50)]


def test_contents_come_back_without_those_that_could_not_be_read(tmp_path: Path) -> None:
    stamp = FileStamp(size_bytes=5, mtime_ns=1_700_000_000_123_456_789)
    good = Content(content_hash="ab", stamp=stamp)
    ledger = Ledger(tmp_path)
    ledger.keep_contents(
        {"/a.mp4": good, "/b.mp4": Content(content_hash="", stamp=None, problem="gone")}
    )
    assert ledger.read_contents() == {"/a.mp4": good}
    ledger.forget_contents(["/a.mp4", "/c.mp4"])
    assert ledger.read_contents() == {}


def test_dead_letters_are_a_parquet_table_even_when_there_are_none(tmp_path: Path) -> None:
    letters = [DeadLetter(clip_id=name, video_uri="/v.mp4", error=TOO_SHORT) for name in ("b", "a")]
    write_dead_letters(tmp_path, letters)
    assert read_dead_letters(tmp_path) == letters[::-1]
    write_dead_letters(tmp_path, [])
    assert read_dead_letters(tmp_path) == []


@pytest.mark.parametrize("where", ["head", "middle", "all"])
def test_a_damaged_ledger_is_named_and_keeps_what_can_be_read(tmp_path, caplog, where: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.record([written(f"{n:05d}") for n in range(5000)])
    ledger.keep_contents(
        {"/a.mp4": Content(content_hash="ab", stamp=FileStamp(size_bytes=5, mtime_ns=1))}
    )
    ledger.close()
    path = ledger_path(tmp_path)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {"head": b"x" * 100 + data[100:], "all": b"hello"}.get(
            where, data[:middle] + b"\xa5" * 8192 + data[middle + 8192 :]
        )
    )
    again = outcomes_of(tmp_path)
    assert f"{path} is damaged" in caplog.records[0].getMessage()
    assert all(again[key] == written(key.removeprefix("key-")) for key in again)
    assert len(again) == 0 if where != "middle" else 4000 < len(again) < 5000
    assert path.with_suffix(".damaged").exists()
    caplog.clear()
    Ledger(tmp_path).record([written("00001")])
    assert outcomes_of(tmp_path)["key-00001"] == written("00001")
    assert caplog.text == ""


def test_what_cannot_be_written_is_told_with_its_place(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record([written("a")])
    ledger._database.execute("PRAGMA max_page_count = 4")
    with pytest.raises(OSError, match=r"ledger .*ledger\.sqlite: .*full") as error:
        ledger.record([written("x" * 9000 + str(n)) for n in range(9)])
    assert error.value.errno == errno.ENOSPC
    assert outcomes_of(tmp_path) == {"key-a": written("a")}


@pytest.mark.parametrize("damage", [lambda _: b"", lambda c: c[:-9], lambda _: b"hello", lambda c: c[:9] + bytes(60) + c[69:]])  # fmt: skip
def test_damaged_dead_letters_are_named_and_passed_over(tmp_path: Path, caplog, damage) -> None:
    letters = [DeadLetter(clip_id="a", video_uri="/v.mp4", error=TOO_SHORT)]
    path = write_dead_letters(tmp_path, letters)
    path.write_bytes(damage(path.read_bytes()))
    assert read_dead_letters(tmp_path) == []
    assert str(path) in caplog.records[0].getMessage()
