"""Our bicubic resize has Pillow's bits, whatever the sizes, and in a process that may write nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.decoding.frames import bicubic
from encoders.decoding.frames.bicubic import resize_bicubic

_SOURCE = Path(bicubic.__file__)


def _pillow(frame_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """One axis a call: which one Pillow takes first differs between its versions."""
    image = Image.fromarray(frame_HWC)
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


@pytest.mark.parametrize("largest", [6, 40, 300])
def test_the_bits_are_those_of_pillow(largest):
    """Grown and shrunk, kept on one axis, a pixel wide; noise, and the black and white that overshoots."""
    rng = np.random.default_rng(largest)
    for number in range(120):
        old_height, old_width, height, width = (int(n) for n in rng.integers(1, largest, 4))
        width = old_width if number % 7 == 0 else width
        frame = rng.integers(0, 256, (old_height, old_width, 3)).astype(np.uint8)
        if number % 2:
            frame = np.where(frame > 127, np.uint8(255), np.uint8(0))
        np.testing.assert_array_equal(
            resize_bicubic(frame, height, width),
            _pillow(frame, height, width),
            err_msg=f"{old_height}x{old_width} to {height}x{width}",
        )


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (1280, 720), (241, 321)])
def test_the_sizes_of_videos_come_out_as_in_pillow(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize_bicubic(frame, 224, 224), _pillow(frame, 224, 224))


def test_a_landscape_frame_comes_out_as_one_call_of_pillow_makes_it():
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    whole = Image.fromarray(frame).resize((56, 56), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize_bicubic(frame, 56, 56), np.asarray(whole))


def test_where_no_folder_can_be_written_it_is_compiled_in_the_process(tmp_path: Path):
    """As in a container with a read-only file system: the machine code cannot be kept."""
    source = tmp_path / "encoders" / "decoding" / "frames"
    source.mkdir(parents=True)
    for folder in (source, source.parent, source.parent.parent):
        (folder / "__init__.py").touch()
    (source / "bicubic.py").write_text(_SOURCE.read_text())
    script = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy, encoders.decoding.frames.bicubic as made\n"
        "print(made.__file__, made.resize_bicubic(numpy.full((8, 8, 3), 7, 'uint8'), 4, 4).max())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(source / "bicubic.py"), "7"]
