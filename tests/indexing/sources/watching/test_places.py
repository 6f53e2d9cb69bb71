import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexing.sources.remote import SourceError
from indexing.sources.watching import places
from indexing.sources.watching.places import LIST_AGAIN, Bucket, Folder, open_place, tells_changes
from tests.support.remote_server import RemoteServer, serve_folder


def told(changes: Iterator[set[str]], wanted: set[str]) -> set[str]:
    """What is told until all that is wanted has been."""
    names: set[str] = set()
    give_up_s = time.monotonic() + 60
    while not wanted <= names and time.monotonic() < give_up_s:
        names |= next(changes)
    return names


def test_a_folder_tells_the_names_of_files_that_changed(tmp_path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a.mp4").write_bytes(b"1")
    (tmp_path / "note.txt").write_text("no video")
    place = Folder(tmp_path, poll_s=5)
    assert list(place.list()) == ["old/a.mp4"]
    changes = place.changes()
    next(changes)
    (tmp_path / "B.MP4").write_bytes(b"2")
    (tmp_path / "old/a.mp4").write_bytes(b"3")
    (tmp_path / "note.txt").write_text("still none")
    assert told(changes, {"B.MP4", "old/a.mp4"}) == {"B.MP4", "old/a.mp4"}
    (tmp_path / "old").rename(tmp_path / "new")
    assert {"old/", "new/a.mp4"} <= told(changes, {"old/", "new/a.mp4"})
    (tmp_path / "B.MP4").unlink()
    assert "B.MP4" in told(changes, {"B.MP4"})
    assert place.look("B.MP4") is None
    (clip,) = place.archive(["new/a.mp4"]).clips
    assert (clip.clip_id, clip.video_uri) == ("new/a.mp4", str(tmp_path / "new/a.mp4"))


def test_what_is_below_a_linked_folder_is_left_to_a_listing(tmp_path) -> None:
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "a.mp4").write_bytes(b"a")
    folder = Folder(tmp_path, poll_s=1)
    changes = folder.changes()
    next(changes)
    (tmp_path / "latest").symlink_to("2024")
    told: set[str] = set()
    give_up = time.monotonic() + 30
    while LIST_AGAIN not in told and time.monotonic() < give_up:
        told |= next(changes)
    assert told == {LIST_AGAIN}
    assert list(folder.list()) == ["2024/a.mp4"]


def test_a_folder_that_was_unmounted_has_not_lost_its_files(tmp_path) -> None:
    place = Folder(tmp_path, poll_s=5)
    place._device += 1  # what a stat of the mount point says after umount
    for ask in (place.list, lambda: place.look("a.mp4")):
        with pytest.raises(SourceError, match="unmounted"):
            ask()


def test_a_file_that_may_not_be_asked_is_not_gone(tmp_path, monkeypatch) -> None:
    place = Folder(tmp_path, poll_s=5)
    stat = Path.stat

    def refused(path: Path, **options):
        if path.name == "a.mp4":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    assert place.look("a.mp4") is not None
    assert place.look("b.mp4") is None


def test_changes_on_network_file_systems_are_not_told(tmp_path, monkeypatch) -> None:
    assert tells_changes(tmp_path)
    for kind in ("nfs4", "cifs", "fuse.sshfs"):
        monkeypatch.setattr(places, "file_system_of", lambda _folder, kind=kind: kind)
        assert not tells_changes(tmp_path)


def test_a_large_place_is_listed_seldom(tmp_path, monkeypatch) -> None:
    relisting = places._Relisting(5.0)
    now = time.monotonic()
    for cpu_s, wait_s in ((0.001, 5), (0.1, 20), (10.0, 2000)):
        monkeypatch.setattr(time, "thread_time", iter((0.0, cpu_s)).__next__)
        with relisting:
            pass
        for later_s, is_due in ((wait_s - 1, False), (wait_s + 30, True)):
            monkeypatch.setattr(time, "monotonic", lambda late=later_s: now + late)
            assert relisting.is_due() == is_due
        monkeypatch.setattr(time, "monotonic", lambda: now)


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[RemoteServer]:
    (tmp_path / "b/top").mkdir(parents=True)
    with serve_folder(tmp_path) as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


def test_a_bucket_is_told_from_listings_alone(server, monkeypatch) -> None:
    top = server.folder / "b/top"
    place = open_place("s3://b/top/", poll_s=0.001)
    with pytest.raises(SourceError, match="no video files"):
        place.list()
    (top / "a.mp4").write_bytes(b"1")
    first = place.list()
    assert place.look("a.mp4") == first["a.mp4"]
    (top / "a.mp4").write_bytes(b"2")
    (top / "b.mp4").write_bytes(b"3")
    server.requests.clear()
    second = place.list()
    assert len(server.requests) == 1
    assert second.keys() == {"a.mp4", "b.mp4"}
    assert second["a.mp4"] != first["a.mp4"]
    archive = place.archive(["b.mp4"])
    assert [clip.video_uri for clip in archive.clips] == ["s3://b/top/b.mp4"]
    assert archive.stamps.keys() == {"s3://b/top/b.mp4"}
    assert archive.fetch_uris == {}  # its name opens it
    monkeypatch.setattr(places, "_TICK_MS", 10)
    assert LIST_AGAIN in told(place.changes(), {LIST_AGAIN})


def test_only_folders_are_watched(tmp_path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1")
    with pytest.raises(ValueError, match="cannot be watched; give a folder"):
        open_place(str(tmp_path / "a.mp4"), poll_s=5)
    assert isinstance(open_place("s3://b/top", poll_s=5), Bucket)
