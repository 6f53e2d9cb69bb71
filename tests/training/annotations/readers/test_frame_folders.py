"""Packed frames against Pillow's own reading of the JPEG files."""

import numpy as np
import pytest
from PIL import Image

from encoders.decoding.decode import decode_clips
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from training.annotations.readers.frame_folders import jpeg_size, pack_frames, pack_missing_videos
from training.annotations.readers.rows import Problems


def write_frames(folder, *, num_frames=9, size=(48, 32), first=489):
    folder.mkdir(parents=True)
    paths = []
    for number in range(num_frames):
        ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0])
        picture = np.stack([ramp, np.full_like(ramp, 20 * number), 255 - ramp], -1).astype(np.uint8)
        path = folder / f"{first + number:05d}.jpg"
        Image.fromarray(picture).save(path, quality=95)
        paths.append(path)
    return paths


def test_the_decoder_finds_every_frame_as_the_jpeg_has_it(tmp_path):
    paths = write_frames(tmp_path / "frames")
    pack_frames(paths, tmp_path / "dive.mov", frames_per_s=25)
    clips = decode_clips(
        tmp_path / "dive.mov",
        [Span(start_s=0.0, end_s=None)],
        SamplingConfig(num_frames=9, frame_size=None),
    )
    assert clips.errors == (None,)
    assert clips.frame_indices_NT[0].tolist() == list(range(9))
    for frame_HWC, path in zip(clips.frames_NTHWC[0], paths, strict=True):
        expected_HWC = np.asarray(Image.open(path).convert("RGB"))
        assert np.abs(frame_HWC.astype(int) - expected_HWC.astype(int)).mean() < 0.5


def test_a_span_counts_frames_at_the_given_rate(tmp_path):
    pack_frames(write_frames(tmp_path / "frames"), tmp_path / "dive.mov", frames_per_s=10)
    clips = decode_clips(
        tmp_path / "dive.mov",
        [Span(start_s=0.2, end_s=0.5)],
        SamplingConfig(num_frames=3, frame_size=None),
    )
    assert clips.frame_indices_NT[0].tolist() == [2, 3, 4]


def test_the_jpeg_bytes_are_in_the_file_unchanged(tmp_path):
    paths = write_frames(tmp_path / "frames", num_frames=3)
    pack_frames(paths, tmp_path / "dive.mov", frames_per_s=30)
    assert b"".join(path.read_bytes() for path in paths) in (tmp_path / "dive.mov").read_bytes()


def test_every_folder_without_a_video_is_packed_once(tmp_path):
    for number in (0, 11):
        write_frames(tmp_path / "frames" / "FINA_r1" / str(number), num_frames=2)
    options = {"frames_per_s": 30, "problems": Problems()}
    assert pack_missing_videos(tmp_path / "frames", tmp_path / "videos", **options) == 2
    assert {path.name for path in (tmp_path / "videos").iterdir()} == {
        "FINA_r1_0.mov",
        "FINA_r1_11.mov",
    }
    assert pack_missing_videos(tmp_path / "frames", tmp_path / "videos", **options) == 0


@pytest.mark.parametrize("size", [(1, 1), (640, 360), (17, 255)])
def test_the_size_is_what_pillow_says(tmp_path, size):
    [path] = write_frames(tmp_path / "f", num_frames=1, size=size)
    assert jpeg_size(path.read_bytes(), source="x") == Image.open(path).size


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8" + b"\xff" * 50,
        b"\xff\xd8\xff\xe0\x00\x02abcdefgh",
    ],
)
def test_what_is_not_a_jpeg_is_named(content):
    with pytest.raises(ValueError, match=r"x\.jpg: not a JPEG"):
        jpeg_size(content, source="x.jpg")


def test_frames_of_another_size_and_empty_folders_are_refused_and_leave_no_file(tmp_path):
    paths = write_frames(tmp_path / "a") + write_frames(tmp_path / "b", size=(64, 32))
    with pytest.raises(ValueError, match=r"\(64, 32\) pixels; the first frame is \(48, 32\)"):
        pack_frames(paths, tmp_path / "out" / "x.mov", frames_per_s=30)
    with pytest.raises(ValueError, match=r"x\.mov: 0 frames"):
        pack_frames([], tmp_path / "out" / "x.mov", frames_per_s=30)
    assert list((tmp_path / "out").iterdir()) == []
