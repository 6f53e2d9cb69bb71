"""Colours of files against the matrices of the standards, and against FFmpeg's zscale, which is not the library that converts here."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from av import VideoFrame

from encoders.decoding.decode import decode_clips
from encoders.decoding.frames.color import matrix_code, recolor
from encoders.decoding.pyav_video import FrameConverter
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

FILE = SamplingConfig(num_frames=4, frame_size=None, color="file")
# Kr, Kb of BT.601, BT.709, FCC, SMPTE 240M and BT.2020, by their numbers in ITU-T H.273.
WEIGHTS = {
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
BLOCK, NUM_BLOCKS = 8, 8
SIZE = BLOCK * NUM_BLOCKS
CENTRES = np.ix_(*[[i for i in range(SIZE) if 3 <= i % BLOCK < 6]] * 2)
FORMATS = {"yuv420p": 8, "yuvj420p": 8, "yuv422p": 8, "yuv444p": 8, "yuv420p10le": 10, "yuv422p10le": 10, "yuv444p12le": 12}  # fmt: skip


def blocks(rng, low: float, high: float) -> np.ndarray:
    values = rng.uniform(low, high, (NUM_BLOCKS, NUM_BLOCKS))
    return values.repeat(BLOCK, 0).repeat(BLOCK, 1)


def rgb_of(y, cb, cr, code: int) -> np.ndarray:
    """0 to 255, not rounded; Y' = Kr R + Kg G + Kb B, Cb = (B - Y') / 2 (1 - Kb), Cr = (R - Y') / 2 (1 - Kr)."""
    red, blue = WEIGHTS[code]
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return 255 * np.clip(np.stack([r, g, b], -1), 0, 1)


def patches(pix_fmt: str, code: int, *, is_full: bool) -> tuple[VideoFrame, np.ndarray]:
    """A frame of blocks of one colour each, and its RGB by arithmetic."""
    rng = np.random.default_rng(7)
    bits = FORMATS[pix_fmt]
    top, unit = (1 << bits) - 1, 1 << (bits - 8)
    planes = [blocks(rng, 0.1, 0.9), blocks(rng, -0.3, 0.3), blocks(rng, -0.3, 0.3)]
    offsets = [0, 128 * unit, 128 * unit] if is_full else [16 * unit, 128 * unit, 128 * unit]
    scales = [top] * 3 if is_full else [219 * unit, 224 * unit, 224 * unit]
    frame = VideoFrame(SIZE, SIZE, pix_fmt)
    frame.colorspace, frame.color_range = code, 2 if is_full else 1
    exact = []
    for plane, values, offset, scale in zip(frame.planes, planes, offsets, scales, strict=True):
        codes = np.round(values * scale + offset)
        exact.append((codes - offset) / scale)
        step_y, step_x = SIZE // plane.height, SIZE // plane.width
        sampled = codes[::step_y, ::step_x].astype(np.uint8 if bits == 8 else np.uint16)
        lines = np.zeros((plane.height, plane.line_size // sampled.itemsize), sampled.dtype)
        lines[:, : plane.width] = sampled
        plane.update(lines.tobytes())
    return frame, rgb_of(*exact, code)


@pytest.mark.parametrize("code", WEIGHTS)
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_each_matrix_and_range_is_that_of_its_standard(pix_fmt, code):
    for is_full in (True,) if pix_fmt.startswith("yuvj") else (False, True):
        frame, expected = patches(pix_fmt, code, is_full=is_full)
        # Half a level of rounding; above 8 bits FFmpeg's full range ends a level early.
        most = 1.5 if is_full and FORMATS[pix_fmt] > 8 else 0.51
        assert np.abs(FrameConverter(FILE).rgb_frame(frame) - expected)[CENTRES].max() <= most
        as_before = FrameConverter().rgb_frame(frame)
        off = np.abs(as_before - expected)[CENTRES].max()
        assert off > 10 if code in (1, 7, 9) else off <= 2
        area = SamplingConfig(num_frames=1, frame_size=NUM_BLOCKS, resize="swscale_area", color="file")  # fmt: skip
        means = expected.reshape(NUM_BLOCKS, BLOCK, NUM_BLOCKS, BLOCK, 3).mean((1, 3))
        # Chroma of neighbours runs into the edge of a block.
        assert np.abs(FrameConverter(area).rgb_frame(frame) - means).mean() < 4


def test_what_has_no_linear_matrix_counts_as_bt_601():
    assert [matrix_code(named, "file") for named in (0, 2, 3, 8, 10, 14)] == [5] * 6
    assert {matrix_code(named, "bt601") for named in range(15)} == {5}


FILES = {
    "bt709.mp4": "-c:v libx264 -colorspace bt709",
    "bt709_full.mkv": "-c:v libx264 -colorspace bt709 -color_range pc -vf scale=out_range=pc",
    "bt2020_hdr.mp4": "-c:v libx265 -x265-params log-level=none:pools=1 -pix_fmt yuv420p10le -colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084",
    "smpte240m.mkv": "-c:v libx264 -pix_fmt yuv444p -colorspace smpte240m",
    "untagged_hd.ts": "-c:v libx264",
    "bt709.webm": "-c:v libvpx-vp9 -cpu-used 8 -colorspace bt709",
    "bt709.mxf": "-c:v mpeg2video -q:v 1 -pix_fmt yuv422p -colorspace bt709",
    "bt709_12bit.mkv": "-c:v ffv1 -level 3 -pix_fmt yuv422p12le -colorspace bt709",
    "prores.mov": "-c:v prores_ks -pix_fmt yuv422p10le -colorspace bt709",
}
# Smooth, so that it matters little how chroma is interpolated.
SOURCE = "gradients=size=192x108:rate=25:duration=0.4:c0=0x4060a0:c1=0xb07050:c2=0x60a870:nb_colors=3:seed=1"


def ffmpeg(*arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", FILES)
def test_the_colours_of_files_are_those_of_zscale(tmp_path, name):
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", f"{SOURCE},format=yuv420p", *FILES[name].split(), str(path))
    clips = decode_clips(path, [Span(start_s=0, end_s=None)], FILE)
    assumed = ":matrixin=170m" if "untagged" in name else ""
    zscale = f"zscale=matrix=gbr:range=full{assumed},format=gbrp,format=rgb24"
    raw = ffmpeg("-i", str(path), "-vf", zscale, "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    expected = np.frombuffer(raw, np.uint8).reshape(-1, 108, 192, 3)[clips.frame_indices_NT[0]]
    difference = np.abs(clips.frames_NTHWC[0].astype(int) - expected)
    assert (difference.mean() < 1, np.percentile(difference, 99) <= 3) == (True, True), (
        difference.mean(),
        difference.max(),
    )


@pytest.mark.parametrize("code", [1, 4, 7, 9])
def test_rgb_of_bt_601_is_turned_into_what_the_matrix_makes(code):
    """Within 2 levels for every colour that BT.601 does not clip; of all colours of a file these are most."""
    red, blue = WEIGHTS[code]
    wanted = np.random.default_rng(code).uniform(0, 255, (9216, 3))
    y = wanted @ [red, 1 - red - blue, blue] / 255
    cb, cr = (wanted[:, 2] / 255 - y) / (2 - 2 * blue), (wanted[:, 0] / 255 - y) / (2 - 2 * red)
    assumed = rgb_of(y, cb, cr, 5)
    turned = recolor(torch.from_numpy(assumed.round().astype(np.uint8).reshape(96, 96, 3)), code)
    difference = np.abs(turned.numpy().reshape(-1, 3) - wanted)
    is_whole = ((assumed > 0) & (assumed < 255)).all(1)
    assert is_whole.mean() > 0.75
    assert difference[is_whole].max() <= 2
    assert (difference.max(), difference.mean()) < (36, 1)
    same = torch.arange(48, dtype=torch.uint8).reshape(4, 4, 3)
    assert recolor(same, 5) is same
