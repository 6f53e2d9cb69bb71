"""The cache of fetched videos: whose folder it may be, and what the options allow."""

import os

import pytest

from indexing.fetch import FetchCache, FetchOptions


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
