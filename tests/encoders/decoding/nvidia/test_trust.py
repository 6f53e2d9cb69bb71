"""Frames are believed after a comparison, and kinds of stream that fail are remembered."""

import numpy as np
import pytest

from encoders.decoding.nvidia.nvdec_limits import StreamKind
from encoders.decoding.nvidia.trust import TrustedKinds, difference_reason

KIND = StreamKind(
    codec="h264", profile="High", pixel_format="yuv420p", size_class="up to 576 lines"
)


@pytest.fixture
def cpu_frames():
    """Three frames of a slow ramp: neighbours differ by two levels, far below the fixed bound."""
    ramp = np.arange(64)[None, :, None] + np.zeros((48, 1, 3), np.int64)
    return {n: (ramp + 2 * n).astype(np.uint8) for n in (4, 5, 6)}


def test_the_right_frame_is_near_and_the_nearest(cpu_frames):
    rounded = cpu_frames[5] + np.uint8(1)
    assert difference_reason(5, cpu_frames[5], cpu_frames) is None
    assert difference_reason(5, rounded - np.uint8(1), cpu_frames) is None
    assert "-1 frame away" in (difference_reason(5, cpu_frames[4], cpu_frames) or "")
    assert "+1 frame away" in (difference_reason(5, cpu_frames[6], cpu_frames) or "")


def test_black_frames_other_ranges_and_sizes_are_refused(cpu_frames):
    assert "levels on average" in (difference_reason(5, 0 * cpu_frames[5], cpu_frames) or "")
    limited = (16 + cpu_frames[5] * (219 / 255)).astype(np.uint8)
    assert "levels on average" in (difference_reason(5, limited, cpu_frames) or "")
    assert "shape" in (difference_reason(5, cpu_frames[5][:-1], cpu_frames) or "")


def test_a_still_scene_is_no_reason_to_doubt():
    still = {n: np.full((8, 8, 3), 90, np.uint8) for n in (0, 1, 2)}
    assert difference_reason(1, np.full((8, 8, 3), 91, np.uint8), still) is None


def test_a_kind_is_given_up_after_three_failures_in_a_row():
    kinds = TrustedKinds()
    for _ in range(3):
        assert kinds.refusal(KIND) is None
        kinds.note_failure(KIND, "no decoder")
    assert kinds.refusal(KIND) == "h264 High yuv420p, up to 576 lines: no decoder"
    believed = TrustedKinds()
    believed.believe(KIND)
    for _ in range(2):
        believed.note_failure(KIND, "damaged")
    believed.believe(KIND)  # a good video in between
    for _ in range(2):
        believed.note_failure(KIND, "damaged")
    assert believed.refusal(KIND) is None
    believed.note_failure(KIND, "damaged")
    assert believed.refusal(KIND) is not None
