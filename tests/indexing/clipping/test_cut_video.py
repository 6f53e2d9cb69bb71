"""Where one video is cut; whole runs are in test_split_videos.py."""

from itertools import pairwise

import pytest

from indexing.clipping.cut_video import CutSettings, pieces, windows


@pytest.mark.parametrize(
    ("end_s", "every_s", "expected"),
    [
        (8.0, 4.0, [(0, 4), (4, 8)]),
        (10.0, 4.0, [(0, 4), (4, 8), (8, 10)]),
        (9.9, 4.0, [(0, 4), (4, 9.9)]),
        (4.004, 4.0, [(0, 4.004)]),
        (5.28, 4.0, [(0, 5.28)]),
        (10.5, 2.0, [(0, 4), (2, 6), (4, 8), (6, 10.5)]),
        (11.5, 2.0, [(0, 4), (2, 6), (4, 8), (6, 10), (8, 11.5)]),
        (10.0, 2.0, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (4.0, 4.0, [(0, 4)]),
        (1.5, 4.0, [(0, 1.5)]),
    ],
)
def test_windows_cover_the_video_and_end_with_it(end_s, every_s, expected) -> None:
    assert windows(end_s, length_s=4.0, every_s=every_s) == expected


def test_windows_of_any_length_cover_the_video_once_and_no_two_are_alike() -> None:
    for end_s in (0.5, 3.99, 4.01, 6.0, 7.5, 61.3, 100.0):
        for every_s in (1.0, 3.0, 4.0):
            spans = windows(end_s, length_s=4.0, every_s=every_s)
            assert (spans[0][0], spans[-1][1]) == (0.0, end_s)
            assert all(start <= before for (_, before), (start, _) in pairwise(spans))
            assert [start for start, _ in spans] == [k * every_s for k in range(len(spans))]
            assert all(2.0 <= stop - start < 6.0 for start, stop in spans) or end_s < 2
            if every_s == 4.0:
                assert all(start == before for (_, before), (start, _) in pairwise(spans))


def test_shots_that_are_too_long_are_cut_evenly() -> None:
    assert pieces([2.0, 11.0], 12.0, length_s=4.0) == [(0, 2), (2, 5), (5, 8), (8, 11), (11, 12)]
    assert pieces([], 4.0, length_s=4.0) == [(0.0, 4.0)]


def test_settings_that_would_lose_something_are_refused() -> None:
    with pytest.raises(ValueError, match="must not leave gaps"):
        CutSettings(length_s=2.0, every_s=3.0)
    with pytest.raises(ValueError, match=r"length_s is 0; it must be at least 0\.01 seconds"):
        CutSettings(length_s=0)
    assert windows(9.0, length_s=CutSettings(length_s=float("inf")).length_s, every_s=4.0) == [(0.0, 9.0)]  # fmt: skip
    keys = {CutSettings().key, CutSettings(by="shots").key, CutSettings(every_s=2.0).key}
    assert len(keys) == 3
