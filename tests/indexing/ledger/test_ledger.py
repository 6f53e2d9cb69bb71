import errno
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from encoders.stages.base import NO_ERROR, ClipError
from indexing.ledger.ledger import LEDGER, Ledger, Outcome, checked_reasons, outcomes_of_batch
from indexing.sources.content import Content, FileStamp


def written(name: str, **changes) -> Outcome:
    return Outcome(**{"clip_key": f"key-{name}", "clip_id": name, "video_uri": "/v.mp4"} | changes)


TOO_SHORT = ClipError(stage="decode", reason="too_short", detail="1 frame")
DEAD = written("bad", error=TOO_SHORT)
STAMP = FileStamp(size_bytes=5, mtime_ns=1_700_000_000_123_456_789, version="8")


def test_the_last_outcome_of_a_row_counts_and_is_there_when_it_was_recorded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)  # never closed, as after a kill
    ledger.record([written("a"), DEAD])
    ledger.record([written("bad")])
    ledger.record([DEAD, written("c", row_digest="d")])
    ledger.forget([("a", "key-a"), ("unknown", "key-unknown"), ("c", "key-other")])
    with Ledger(tmp_path) as again:
        assert list(again.outcomes()) == [DEAD, written("c", row_digest="d")]
        assert again.outcome("bad", "key-bad") == DEAD
        assert again.outcome("bad", "key-other") is None


def test_contents_come_back_without_those_that_could_not_be_read(tmp_path: Path) -> None:
    good = Content(content_hash="ab", stamp=STAMP)
    with Ledger(tmp_path) as ledger:
        gone = Content(content_hash="", stamp=None, problem="gone")
        ledger.keep_contents({"/a.mp4": good, "/b.mp4": gone, "/c.mp4": good})
    with Ledger(tmp_path) as ledger:
        assert ledger.contents(["/b.mp4", "/a.mp4", "/d.mp4"]) == {"/a.mp4": good}


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.record([written("a")]),
        lambda ledger: ledger.forget([("a", "key-a")]),
        lambda ledger: ledger.keep_contents({"/a.mp4": Content(content_hash="ab", stamp=STAMP)}),
    ],
)
def test_what_a_finished_run_saw_is_forgotten_by_any_change(tmp_path: Path, change) -> None:
    with Ledger(tmp_path) as ledger:
        assert ledger.finished() == ""
        ledger.finish("all")
        ledger.finish("all of it")
    with Ledger(tmp_path) as ledger:
        assert ledger.finished() == "all of it"
        change(ledger)
        assert ledger.finished() == ""


@pytest.mark.parametrize("content", [b"", b"no ledger" * 999, b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_file_is_named_and_moved_aside_by_who_writes(
    tmp_path: Path, caplog, content: bytes
) -> None:
    path = tmp_path / LEDGER
    path.write_bytes(content)
    with Ledger(tmp_path, reads_only=True) as ledger:
        assert ledger.was_damaged
        assert list(ledger.outcomes()) == []
    assert path.read_bytes() == content
    with Ledger(tmp_path) as ledger:
        assert ledger.was_damaged
        ledger.record([DEAD])
    assert (tmp_path / f"{LEDGER}.damaged").read_bytes() == content
    assert all(str(path) in record.getMessage() for record in caplog.records)
    with Ledger(tmp_path) as ledger:
        assert not ledger.was_damaged
        assert list(ledger.outcomes()) == [DEAD]
        assert not ledger.knows_unchecked()  # whatever ended the run that saw the damage
        ledger.clear_unchecked()
        assert ledger.knows_unchecked()


def test_damage_in_the_middle_of_the_file_is_found_when_it_is_opened(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([written(f"{n:06}") for n in range(5000)])
    path = tmp_path / LEDGER
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)
    with Ledger(tmp_path, reads_only=True) as ledger:
        assert ledger.was_damaged


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with Ledger(tmp_path / "nowhere", reads_only=True) as ledger:
        assert ledger.contents(["/a.mp4"]) == {}
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_is_told_as_one_and_leaves_the_ledger_usable(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([written("a")])
        num_pages = ledger.database.execute("PRAGMA page_count").fetchone()[0]
        ledger.database.execute(f"PRAGMA max_page_count = {num_pages}")
        with pytest.raises(OSError, match=LEDGER) as raised:
            ledger.record([written(f"{n:06}") for n in range(5000)])
        assert raised.value.errno == errno.ENOSPC
        ledger.record([DEAD])
        assert list(ledger.outcomes()) == [written("a"), DEAD]


def test_a_reader_is_not_in_the_way_of_who_writes(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([written("a")])
        with Ledger(tmp_path, reads_only=True) as reader:
            first = reader.outcomes()
            assert next(first) == written("a")
            ledger.record([DEAD])
            assert reader.outcome("bad", "key-bad") in (None, DEAD)


def test_an_error_of_the_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=LEDGER), Ledger(tmp_path):
        raise sqlite3.OperationalError("database or disk is full")
    (tmp_path / "folder" / LEDGER).mkdir(parents=True)
    with pytest.raises(OSError, match=LEDGER):
        Ledger(tmp_path / "folder")


def test_batches_become_outcomes() -> None:
    short = {"stage": "decode", "reason": "too_short", "detail": "1 frame"}
    batch = {
        "clip_id": np.array(["a", "bad"], object),
        "clip_key": np.array(["key-a", "key-bad"], object),
        "video_uri": np.array(["/v.mp4"] * 2, object),
        "row_digest": np.array(["d", ""], object),
        "error": np.array([NO_ERROR, short]),
    }
    assert outcomes_of_batch(batch) == [written("a", row_digest="d"), DEAD]


def test_a_reason_that_no_dead_letter_can_have_is_refused() -> None:
    assert checked_reasons(["all", "fetch_failed"]) == ("all", "fetch_failed")
    with pytest.raises(ValueError, match="'tired' is unknown"):
        checked_reasons(["tired"])


@pytest.mark.parametrize(
    "change",
    ["UPDATE contents SET content_hash", "UPDATE outcomes SET clip_id", "UPDATE finished SET text"],
)
def test_a_text_that_is_not_utf8_costs_the_ledger_and_not_the_next_run(
    tmp_path: Path, change: str
) -> None:
    """No check of SQLite's sees it."""
    with Ledger(tmp_path) as ledger:
        ledger.record([written("a")])
        ledger.keep_contents({"/v.mp4": Content(content_hash="abc", stamp=STAMP)})
        ledger.finish("done")
        ledger.database.execute(f"{change} = CAST(x'ff41' AS TEXT)")

    def read(ledger: Ledger) -> None:
        ledger.contents(["/v.mp4"])
        list(ledger.outcomes())
        ledger.finished()

    for reads_only in (True, False):
        with (
            pytest.raises(OSError, match=r"ledger\.sqlite.*|not UTF-8") as raised,
            Ledger(tmp_path, reads_only=reads_only) as ledger,
        ):
            read(ledger)
        assert "not UTF-8" in str(raised.value)
    with Ledger(tmp_path) as ledger:
        read(ledger)
        assert not ledger.knows_unchecked()
