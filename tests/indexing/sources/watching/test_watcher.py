"""When files are taken: with a follower that notes what it is given, and in seeded histories with the real one."""

from collections.abc import Collection
from pathlib import Path
from threading import Event

import pytest

from benchmarks.throughput.scale.watch_histories import run_histories, video_bytes
from indexing.sources.archive import Archive
from indexing.sources.watching.config import WatchRules
from indexing.sources.watching.follower import Update
from indexing.sources.watching.places import LIST_AGAIN, Folder
from indexing.sources.watching.watcher import Watch
from indexing.store.client import MilvusBusyError
from indexing.store.endpoint import serve_milvus


class Notes:
    """In place of a follower."""

    def __init__(self, *, rows: Collection[str] = ()) -> None:
        self.rows = set(rows)
        self.errors: list[Exception] = []
        self.unreadable: set[str] = set()
        self.taken: list[str] = []
        self.gone: list[str] = []

    def differences(self, archive: Archive, stamps) -> tuple[set[str], set[str]]:
        ids = {clip.clip_id for clip in archive.clips}
        return ids - self.rows, self.rows - ids

    def update(self, archive: Archive, gone: Collection[str], *, is_same) -> Update:
        if self.errors:
            raise self.errors.pop()
        self.taken += [clip.clip_id for clip in archive.clips]
        self.gone += gone
        again = [name for name in self.taken if name in self.unreadable]
        return Update(written=len(archive.clips), deleted=len(gone), again=tuple(again))


class Watched:
    """A folder and its watch, with a clock that the test turns."""

    def __init__(self, folder: Path, notes: Notes, **rules: float) -> None:
        self.folder, self.notes, self.now_s, self.said = folder, notes, 0.0, []
        rules = {"settle_s": 2.0, "patience_s": 60.0} | rules
        self.watch = Watch(
            Folder(folder, poll_s=1),
            notes,  # pyright: ignore[reportArgumentType]
            WatchRules(**rules),
            say=self.said.append,
            now=lambda: self.now_s,
        )

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)
        self.watch.note([name])

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.watch.step()


@pytest.fixture
def watched(tmp_path) -> Watched:
    return Watched(tmp_path, Notes())


def test_a_file_is_taken_when_it_has_not_changed_for_a_while(watched) -> None:
    watched.watch.start()
    for seed in range(3):
        watched.write("a.mp4", video_bytes(seed))
        watched.wait(1.5)
    assert watched.notes.taken == []
    watched.wait(1.0)
    assert watched.notes.taken == ["a.mp4"]
    watched.watch.note(["a.mp4"])  # nothing about it is new
    assert watched.watch.is_idle


def test_a_file_is_taken_when_it_is_whole_and_closed(watched) -> None:
    content = video_bytes(1)
    watched.write("half.mp4", content[:50])
    with (watched.folder / "open.mp4").open("wb") as file:
        file.write(content)
        file.flush()
        watched.watch.note(["open.mp4"])
        for _ in range(20):
            watched.wait(2.5)
        assert watched.notes.taken == []
        assert watched.watch.waiting() == {"open for writing": 1, "not whole": 1}
        watched.write("half.mp4", content)
    for _ in range(20):
        watched.wait(2.5)
    assert sorted(watched.notes.taken) == ["half.mp4", "open.mp4"]


def test_a_file_that_stays_cut_is_taken_at_last_unless_it_is_still_written(watched) -> None:
    watched.write("half.mp4", video_bytes(1)[:50])
    with (watched.folder / "open.mp4").open("wb"):
        watched.watch.note(["open.mp4"])
        for _ in range(40):
            watched.wait(2.5)
        assert watched.notes.taken == ["half.mp4"]


def test_a_file_that_cannot_be_read_is_tried_less_and_less_often(watched) -> None:
    watched.notes.unreadable = {"a.mp4"}
    watched.write("a.mp4", video_bytes(1))
    for _ in range(1000):
        watched.wait(2.0)
    assert 10 < len(watched.notes.taken) < 20
    watched.notes.unreadable = set()
    for _ in range(200):
        watched.wait(2.0)
    assert watched.watch.is_idle


def test_what_a_list_lacks_is_deleted_unless_it_is_too_much(tmp_path) -> None:
    names = [f"{number}.mp4" for number in range(100)]
    for name in names[:70]:
        (tmp_path / name).write_bytes(video_bytes(1))
    watched = Watched(tmp_path, Notes(rows=names))
    watched.watch.start()
    watched.wait(3)
    assert (watched.watch.is_idle, watched.notes.gone) == (True, [])
    assert "30 of 100 files are not there any more; their rows are kept" in watched.said[0]
    (tmp_path / "0.mp4").unlink()
    watched.watch.note([LIST_AGAIN])
    watched.wait(3)
    assert watched.notes.gone == ["0.mp4"]
    for path in tmp_path.iterdir():
        path.unlink()
    watched.watch.note([LIST_AGAIN])  # an empty mount point looks the same
    watched.wait(3)
    assert watched.notes.gone == ["0.mp4"]
    watched.watch.note(["1.mp4"])  # this one was told
    watched.wait(3)
    assert watched.notes.gone == ["0.mp4", "1.mp4"]
    certain = Watched(tmp_path, Notes(rows=names), max_delete_share=1.0)
    certain.watch.start()
    certain.wait(3)
    assert sorted(certain.notes.gone) == sorted(names)


def test_an_error_is_said_and_what_it_held_up_is_done_later(watched, monkeypatch) -> None:
    stop = Event()

    def changes():
        (watched.folder / "a.mp4").write_bytes(video_bytes(1))
        yield {"a.mp4"}
        for _ in range(40):
            watched.now_s += 2.5
            yield set()
        stop.set()
        yield set()

    monkeypatch.setattr(watched.watch._place, "changes", changes)
    watched.notes.errors.append(MilvusBusyError("Milvus does not answer"))
    watched.watch.follow(stop)
    assert watched.notes.taken == ["a.mp4"]
    assert watched.said == ["Milvus does not answer; trying again in 30 s", "1 indexed"]


@pytest.mark.parametrize("rules", [{"settle_s": -1.0}, {"max_delete_share": 1.5}])
def test_rules_that_mean_nothing_are_refused(rules) -> None:
    with pytest.raises(ValueError, match=next(iter(rules))):
        WatchRules(**rules)


def test_seeded_histories_lose_double_and_keep_nothing(tmp_path) -> None:
    """The rest run with `python -m benchmarks scale-watch`."""
    with serve_milvus(str(tmp_path / "milvus")):
        run_histories(8, str(tmp_path / "milvus"), keeps=False)
