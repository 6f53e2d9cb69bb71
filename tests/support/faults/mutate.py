"""Seeded damage to media files, and what ffmpeg in its strictest mode says of the result."""

import random
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg

_WRONG_SUFFIXES = (".mkv", ".webm", ".mov", ".m4v")


def mutate_file(source: Path, folder: Path, seed: int) -> Path:
    """A damaged copy: flipped bits, a cut end, random bytes, a removed or doubled piece, or only another suffix."""
    draw = random.Random(seed)
    data = bytearray(source.read_bytes())
    suffix = source.suffix
    kind = draw.choice(("bits", "bits", "cut", "noise", "suffix", "hole", "double"))
    at = draw.randrange(len(data))
    length = draw.choice((1, 16, 256, 4096))
    if kind == "bits":
        for _ in range(draw.choice((1, 4, 64))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "noise":
        data[at : at + length] = draw.randbytes(min(length, len(data) - at))
    elif kind == "hole":
        del data[at : at + length]
    elif kind == "double":
        data[at:at] = data[at : at + length]
    else:
        suffix = draw.choice([one for one in _WRONG_SUFFIXES if one != source.suffix])
    path = folder / f"{seed:05d}-{kind}-{source.stem}{suffix}"
    path.write_bytes(data)
    return path


def frames_decoded(path: Path, start_s: float, end_s: float | None) -> int:
    """Of the span in the first video stream, by `ffmpeg -xerror -err_detect explode`; 0 where that has anything to say."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-threads", "1"]
    command += ["-progress", "pipe:1", "-xerror", "-err_detect", "explode"]
    command += ["-ss", f"{start_s}"] if start_s else []
    command += ["-to", f"{end_s}"] if end_s is not None else []
    command += ["-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return 0
    counts = re.findall(rb"^frame=(\d+)$", done.stdout, re.MULTILINE)
    return int(counts[-1]) if counts and not done.returncode and not done.stderr.strip() else 0
