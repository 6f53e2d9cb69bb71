"""Sampling against positions written down by hand and against the invariants of the release."""

import numpy as np
import pytest

from encoders.media.sampling import SamplingConfig, sample_positions, sampling_to_dict


@pytest.mark.parametrize(
    ("num_frames_in_clip", "num_frames", "expected"),
    [
        # bounds 0 2 5 7 10 -> (0+1)//2, (2+4)//2, (5+6)//2, (7+9)//2
        (10, 4, [0, 3, 5, 8]),
        (12, 12, list(range(12))),
        (24, 12, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]),
        (25, 12, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 23]),
        (5, 12, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]),
        (1, 3, [0, 0, 0]),
        (7, 1, [3]),
    ],
)
def test_positions_written_by_hand(num_frames_in_clip, num_frames, expected):
    assert sample_positions(num_frames_in_clip, num_frames).tolist() == expected


@pytest.mark.parametrize("num_frames_in_clip", [12, 13, 50, 97, 1000])
def test_random_positions_stay_in_their_interval(num_frames_in_clip):
    rng = np.random.default_rng(0)
    bounds = [int(bound) for bound in np.linspace(0, num_frames_in_clip, 13)]
    seen = set()
    for _ in range(50):
        positions = sample_positions(num_frames_in_clip, 12, rng=rng)
        assert all(
            low <= position < high
            for low, position, high in zip(bounds[:-1], positions, bounds[1:], strict=True)
        )
        seen.add(tuple(positions))
    assert len(seen) > 1 or num_frames_in_clip == 12


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="num_frames is 0"):
        SamplingConfig(num_frames=0, frame_size=None)
    with pytest.raises(ValueError, match="frame_size is -1"):
        SamplingConfig(num_frames=1, frame_size=-1)
    with pytest.raises(ValueError, match="num_frames_in_clip is 0"):
        sample_positions(0, 12)


def test_resize_and_colours_are_named_only_where_they_are_not_the_first_choice():
    """Encoder ids hash this: those from before there was a choice must stay."""
    plain = SamplingConfig(num_frames=12, frame_size=224)
    assert sampling_to_dict(plain) == {"num_frames": 12, "frame_size": 224}
    area = SamplingConfig(num_frames=12, frame_size=224, resize="swscale_area")
    assert SamplingConfig(**sampling_to_dict(area)) == area
    file = SamplingConfig(num_frames=12, frame_size=224, color="file")
    assert SamplingConfig(**sampling_to_dict(file)) == file
    with pytest.raises(ValueError, match="color is 'bt709'; choose one of bt601, file"):
        SamplingConfig(**(sampling_to_dict(plain) | {"color": "bt709"}))
    with pytest.raises(ValueError, match="resize is 'nearest'; choose one of pillow_bicubic"):
        SamplingConfig(**(sampling_to_dict(plain) | {"resize": "nearest"}))
