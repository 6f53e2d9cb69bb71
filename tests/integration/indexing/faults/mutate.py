"""Seeded damage to media files, and what ffmpeg in its strictest mode says of the result."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import av
import av.error

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


def is_wholly_good(path: Path) -> bool:
    """`ffmpeg -xerror -err_detect explode` decodes frames of the first video stream to its end; PyAV's same mode where there is no ffmpeg."""
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-xerror"]
        command += ["-progress", "pipe:1", "-err_detect", "explode", "-i", str(path)]
        command += ["-map", "0:v:0", "-f", "null", "-"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return False
        counts = re.findall(rb"^frame=(\d+)$", done.stdout, re.MULTILINE)
        has_frames = bool(counts) and int(counts[-1]) > 0
        return done.returncode == 0 and not done.stderr.strip() and has_frames
    try:
        with av.open(str(path), options={"err_detect": "explode"}) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            return sum(1 for _ in container.decode(stream)) > 0
    except (av.error.FFmpegError, IndexError, ValueError):
        return False
