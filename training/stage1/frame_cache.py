"""Decoded frames of training clips on the disk: each clip is decoded once, and every epoch draws its frames from what is there.

All frames that a clip's span shows are kept, at the size that training reads, so an example is the same to the bit as without the
cache. T frames of an example, F frames of a span, S side of a frame in pixels.
"""

import json
import logging
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.storage import atomic_path, write_atomic
from encoders.files import parse_json

logger = logging.getLogger(__name__)
MAX_FRAMES = 384
"""Of a clip: longer ones, of which an epoch reads a small part, are decoded each time."""
_SPARE_BYTES = 10 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptFrames:
    """All frames of one clip's span."""

    frames_FSSC: np.ndarray
    """uint8, mapped from the file."""
    first: int
    """Number of the first of them in its video."""
    backend_used: str


class FrameCache:
    """A folder of such frames. Threads and processes may share it: of two that write one clip, the later file replaces the same bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._num_bytes = sum(path.stat().st_size for path in folder.glob("*.npy"))
        self._is_full = False

    def read(self, key: str) -> KeptFrames | None:
        """None where the clip is not there."""
        about_path = self._path(key, ".json")
        try:
            about = parse_json(about_path.read_text())
            frames_FSSC = np.load(self._path(key, ".npy"), mmap_mode="r")
            if list(frames_FSSC.shape) != about["shape"] or frames_FSSC.dtype != np.uint8:
                return None
            return KeptFrames(
                frames_FSSC=frames_FSSC, first=about["first"], backend_used=about["backend_used"]
            )
        # Not there, or damaged: decoding writes it again.
        except (OSError, ValueError, TypeError, KeyError, EOFError):
            return None

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes more stay within the limit and leave the disk some space."""
        self._folder.mkdir(parents=True, exist_ok=True)
        is_within = self._num_bytes + num_bytes <= self._max_bytes
        fits = is_within and shutil.disk_usage(self._folder).free - num_bytes > _SPARE_BYTES
        if not fits and not self._is_full:
            self._is_full = True
            logger.warning(
                "%s holds %.1f GiB of frames and has no room for more; other clips are decoded in every epoch",
                self._folder,
                self._num_bytes / 2**30,
            )
        return fits

    def write(self, key: str, kept: KeptFrames) -> None:
        """Frames first; the file that says what they are comes last, and counts."""
        with self._lock:
            if not self.has_room(kept.frames_FSSC.nbytes):
                return
            self._num_bytes += kept.frames_FSSC.nbytes
        with (
            atomic_path(self._path(key, ".npy")) as temporary,
            temporary.open("wb") as file,  # np.save would add a suffix to a name
        ):
            np.save(file, kept.frames_FSSC)
        about = {
            "shape": list(kept.frames_FSSC.shape),
            "first": kept.first,
            "backend_used": kept.backend_used,
        }
        write_atomic(self._path(key, ".json"), json.dumps(about))

    def _path(self, key: str, suffix: str) -> Path:
        return self._folder / f"{key}{suffix}"
