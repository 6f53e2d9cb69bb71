"""Where one video is cut; whole runs are in test_split_videos.py."""

import pytest

from indexing.clipping.cut_video import CutSettings, pieces, windows


@pytest.mark.parametrize(
    ("end_s", "every_s", "expected"),
    [
        (8.0, 4.0, [(0, 4), (4, 8)]),
        (10.0, 4.0, [(0, 4), (4, 8), (6, 10)]),
        (10.0, 2.0, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (4.0, 4.0, [(0, 4)]),
        (1.5, 4.0, [(0, 1.5)]),
    ],
)
def test_windows_cover_the_video_and_end_with_it(end_s, every_s, expected) -> None:
    assert windows(end_s, length_s=4.0, every_s=every_s) == expected


def test_shots_that_are_too_long_are_cut_evenly() -> None:
    assert pieces([2.0, 11.0], 12.0, length_s=4.0) == [(0, 2), (2, 5), (5, 8), (8, 11), (11, 12)]
    assert pieces([], 4.0, length_s=4.0) == [(0.0, 4.0)]


def test_settings_that_would_lose_something_are_refused() -> None:
    with pytest.raises(ValueError, match="must not leave gaps"):
        CutSettings(length_s=2.0, every_s=3.0)
    with pytest.raises(ValueError, match="length_s is 0; it must be above 0"):
        CutSettings(length_s=0)
    keys = {CutSettings().key, CutSettings(by="shots").key, CutSettings(every_s=2.0).key}
    assert len(keys) == 3
