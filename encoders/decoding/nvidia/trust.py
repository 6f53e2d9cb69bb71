"""Whether a hardware decoder's frames are believed: one comparison with the CPU's frame per process and kind of stream.

Drivers, GPUs and files differ in more ways than can be listed here, and a wrong frame makes a wrong vector that nothing later
notices. A comparison costs one group of pictures on the CPU per kind of stream.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from encoders.decoding.nvidia.nvdec_limits import StreamKind

MAX_MEAN_DIFFERENCE = 8.0
"""Levels of 255, over a frame: rounding and chroma interpolation stay below 2, another range or matrix does not."""
# Levels: two frames of a still scene are equally near, and noise must not decide between them.
_NEIGHBOUR_MARGIN = 0.25
# One file may be damaged, or odd in a way that its kind does not tell.
_MAX_FAILURES_IN_A_ROW = 3


@dataclass(slots=True)
class _Record:
    is_believed: bool = False
    num_failures: int = 0
    """Since the last video that went well."""
    refusal: str | None = None


class TrustedKinds:
    """What this process knows of a decoder, by kind of stream. Safe for several threads."""

    def __init__(self) -> None:
        self._records: dict[StreamKind, _Record] = {}
        self._lock = threading.Lock()

    def refusal(self, kind: StreamKind) -> str | None:
        """Why videos of this kind are not given to the decoder any more; None = they are."""
        with self._lock:
            return self._record(kind).refusal

    def is_believed(self, kind: StreamKind) -> bool:
        """Whether a frame of this kind was compared and was the right one."""
        with self._lock:
            return self._record(kind).is_believed

    def believe(self, kind: StreamKind) -> None:
        """A frame was the right one, or a video went well."""
        with self._lock:
            record = self._record(kind)
            record.is_believed, record.num_failures = True, 0

    def refuse(self, kind: StreamKind, reason: str) -> None:
        """The decoder gives other frames than the CPU for this kind."""
        with self._lock:
            self._record(kind).refusal = f"{kind}: {reason}"

    def note_failure(self, kind: StreamKind, reason: str) -> None:
        """The decoder failed: the end for a kind after several videos in a row."""
        with self._lock:
            record = self._record(kind)
            record.num_failures += 1
            if record.num_failures >= _MAX_FAILURES_IN_A_ROW:
                record.refusal = f"{kind}: {reason}"

    def _record(self, kind: StreamKind) -> _Record:
        return self._records.setdefault(kind, _Record())


def difference_reason(
    number: int, frame_HWC: np.ndarray, cpu_frames: Mapping[int, np.ndarray]
) -> str | None:
    """Why a decoder's frame is not the CPU's of this number; None = it is. `cpu_frames` holds it and those beside it.

    A decoder that counts frames wrongly gives a neighbour, which in slow scenes differs by less than any fixed bound: so the frame
    of the number must also be the nearest.
    """
    expected_HWC = cpu_frames[number]
    if frame_HWC.shape != expected_HWC.shape:
        return f"a frame of shape {frame_HWC.shape} instead of {expected_HWC.shape}"
    distances = {n: _mean_difference(frame_HWC, cpu_HWC) for n, cpu_HWC in cpu_frames.items()}
    if distances[number] > MAX_MEAN_DIFFERENCE:
        return f"its frame differs from the CPU's by {distances[number]:.1f} levels on average"
    nearest = min(distances, key=lambda n: distances[n])
    if distances[nearest] < distances[number] - _NEIGHBOUR_MARGIN:
        return f"its frame is the CPU's {nearest - number:+d} frame away"
    return None


def _mean_difference(one_HWC: np.ndarray, other_HWC: np.ndarray) -> float:
    if one_HWC.shape != other_HWC.shape:
        return float("inf")
    return float(np.abs(one_HWC.astype(np.int16) - other_HWC).mean())
