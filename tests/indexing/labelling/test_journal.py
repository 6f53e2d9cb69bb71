import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexing.labelling import journal as journal_module
from indexing.labelling.clicks import Click, Record
from indexing.labelling.journal import JOURNAL_NAME, Journal, JournalError, read_journal

CLIPS = ("a", "b")


def record(number: int, kind: str = "label", clip: str = "a", **values) -> Record:
    if kind == "label":
        values = {"label": f"l{number}"} | values
    click = Click(click_id=f"click-{number:04d}", kind=kind, clip_id=clip, **values)
    return Record(click=click, video_uri=f"/v/{clip}.mp4", start_s=1.0, end_s=None, received_at="2026-01-01T00:00:00+00:00")  # fmt: skip


def test_what_was_stored_is_read_again_and_twice_the_same_is_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "labels")
    journal.append([record(1), record(2, clip="b"), record(1)])
    journal.append([record(1)])
    journal.close()
    lines = (tmp_path / "labels" / JOURNAL_NAME).read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["l1", "l2"]
    again = Journal(tmp_path / "labels")
    assert [state.label for state in again.clicks.states()] == ["l1", "l2"]
    assert again.clicks.state("a").video_uri == "/v/a.mp4"
    again.close()


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    code = f"from pathlib import Path; from indexing.labelling.journal import Journal; Journal(Path({str(tmp_path)!r}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # fmt: skip
    assert "another process" in ended.stderr
    journal.close()
    Journal(tmp_path).close()


def test_an_unfinished_last_line_is_cut_off_and_damage_before_it_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([record(1), record(2, clip="b")])
    journal.close()
    path = tmp_path / JOURNAL_NAME
    whole = path.read_bytes()
    for cut in (1, 30, len(whole.splitlines()[1])):
        path.write_bytes(whole[:-cut])
        again = Journal(tmp_path)
        assert len(again.clicks) == 1
        again.append([record(2, clip="b")])
        again.close()
        assert path.read_bytes() == whole
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(ValueError, match=r"line 1 is damaged"):
        Journal(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([record(1, label="other")], "that of another click"),
        ([record(2, "undo", undoes="click-0001", clip="b")], "an earlier click of clip 'b'"),
        ([record(3), record(3, label="x")], "that of another click"),
    ],
)
def test_a_wrong_click_stores_none_of_its_batch(
    tmp_path: Path, wrong: list[Record], message: str
) -> None:
    journal = Journal(tmp_path)
    journal.append([record(1)])
    with pytest.raises(ValueError, match=message):
        journal.append([record(9, clip="b"), *wrong])
    assert len(journal.clicks) == len(read_journal(tmp_path / JOURNAL_NAME)[0]) == 1
    journal.close()


def test_a_full_disk_stores_nothing_and_is_no_end(tmp_path: Path, monkeypatch) -> None:
    journal = Journal(tmp_path, max_bytes=500)
    journal.append([record(1)])
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) <= 20:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:-20])

    monkeypatch.setattr(journal_module.os, "write", full)
    with pytest.raises(JournalError, match="No space left"):
        journal.append([record(2)])
    monkeypatch.setattr(journal_module.os, "write", write)
    journal.append([record(3)])
    with pytest.raises(JournalError, match="have reached"):
        journal.append([record(number) for number in range(4, 10)])
    journal.close()
    assert len(read_journal(tmp_path / JOURNAL_NAME)[0]) == 2


def test_nothing_is_taken_after_a_failed_sync(tmp_path: Path, monkeypatch) -> None:
    journal = Journal(tmp_path)
    monkeypatch.setattr(journal_module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error")))  # fmt: skip
    with pytest.raises(JournalError, match="I/O error"):
        journal.append([record(1)])
    monkeypatch.undo()
    with pytest.raises(JournalError, match="restart"):
        journal.append([record(2)])
    journal.close()


def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path) -> None:
    """A process that stores clicks and prints each once it is stored, ended by SIGKILL in the middle."""
    code = f"""
import itertools, sys
from pathlib import Path
from indexing.labelling.clicks import Click, Record
from indexing.labelling.journal import Journal
journal = Journal(Path({str(tmp_path)!r}))
for n in itertools.count():
    click = Click(click_id=f"click-{{n:06d}}", kind="label", clip_id=f"c{{n}}", label="x")
    journal.append([Record(click=click, video_uri="v", start_s=0.0, end_s=None, received_at="")])
    print(click.click_id, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().split()
    process.wait()
    journal = Journal(tmp_path)  # the lock went with the process
    assert all(journal.clicks.find(click_id) for click_id in acknowledged)
    assert len(acknowledged) <= len(journal.clicks) <= len(acknowledged) + 1
    journal.close()
