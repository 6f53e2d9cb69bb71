"""The cache of fetched videos: whose folder it may be, and what the options allow."""

import os

import pytest

from indexing.sources import fetch_cache
from indexing.sources.fetch_cache import FetchCache, FetchOptions
from indexing.sources.remote import RemoteStamp


@pytest.fixture
def remote_bytes(monkeypatch):
    """Every URI gives these bytes."""
    monkeypatch.setattr(
        fetch_cache, "read_remote", lambda _uri, _start, stamp: [b"v" * stamp.size_bytes]
    )
    return RemoteStamp(size_bytes=1000, version="1")


def test_a_folder_of_another_user_is_no_cache(tmp_path, monkeypatch):
    FetchCache(FetchOptions(cache_dir=tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    with pytest.raises(PermissionError, match=r"belongs to another user.*--fetch\.cache-dir"):
        FetchCache(FetchOptions(cache_dir=tmp_path))


@pytest.mark.parametrize("name", ["cache_gib", "max_video_gib", "num_workers"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_sizes_that_are_no_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        FetchOptions(**{name: value})


def test_what_else_lies_in_the_folder_makes_no_room(tmp_path, remote_bytes):
    others = [tmp_path / "thesis.mp4", tmp_path / "notes.used", tmp_path / "photos" / "a.jpg"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 4000)
    cache = FetchCache(FetchOptions(cache_dir=tmp_path, cache_gib=3000 / 2**30))
    for number in range(4):
        cache.fetch(f"http://host/{number}.mp4", "hash", remote_bytes)
        assert cache.has(f"http://host/{number}.mp4", "hash")
    assert all(path.exists() for path in others)
    assert not cache.has("http://host/0.mp4", "hash")


def test_an_error_of_the_reader_is_told_as_itself(tmp_path, remote_bytes):
    cache = FetchCache(FetchOptions(cache_dir=tmp_path))
    with (
        pytest.raises(FileNotFoundError, match="no bundle here"),
        cache.local_copy("http://host/a.mp4", "hash", remote_bytes),
    ):
        raise FileNotFoundError("no bundle here")
