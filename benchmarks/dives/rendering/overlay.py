"""What a broadcaster draws over the picture: captions, a scoreboard, the wipe between a dive and its replay.

Texts are random letters: nothing that is drawn tells what dive it is. T frames, H W pixels, C = 3 (RGB).
"""

import cv2
import numpy as np

_LETTERS = "ABCDEFGHIJKLMNOPRSTUVWZ"
_WHITE = (245, 245, 245)


def draw_caption(frames_THWC: np.ndarray, rng: np.random.Generator, *, is_replay: bool) -> None:
    """A bar with a name for some of the frames, and a mark in a corner for all of a replay; in place."""
    num_frames, size = len(frames_THWC), frames_THWC.shape[1]
    colour = tuple(int(value) for value in rng.integers(10, 120, 3))
    first = int(rng.integers(max(1, num_frames // 2)))
    last = first + int(rng.integers(15, 100))
    top, bottom = int(size * 0.86), int(size * 0.96)
    left, right = int(size * rng.uniform(0.03, 0.2)), int(size * rng.uniform(0.6, 0.95))
    name = _text(rng)
    for frame_HWC in frames_THWC[first:last]:
        cv2.rectangle(frame_HWC, (left, top), (right, bottom), colour, -1)
        _write(frame_HWC, name, (left + 2, bottom - size // 40), size)
    if is_replay and rng.random() < 0.5:
        corner = (int(size * 0.05), int(size * 0.12))
        for frame_HWC in frames_THWC:
            cv2.circle(frame_HWC, corner, max(2, size // 24), (220, 40, 40), -1, cv2.LINE_AA)


def draw_scoreboard(frames_THWC: np.ndarray, rng: np.random.Generator) -> None:
    """Rows of names and points over most of the picture; in place."""
    size = frames_THWC.shape[1]
    colour = np.array(rng.integers(10, 110, 3), np.float32)
    low, high = int(size * 0.1), int(size * 0.9)
    rows = [
        f"{n + 1} {_text(rng)} {rng.integers(200, 600)}" for n in range(int(rng.integers(3, 7)))
    ]
    step = (high - low) // (len(rows) + 1)
    for frame_HWC in frames_THWC:
        part = frame_HWC[low:high, low:high]
        part[:] = (part * 0.25 + colour * 0.75).astype(np.uint8)
        for number, row in enumerate(rows, start=1):
            _write(frame_HWC, row, (low + size // 30, low + number * step), size)


def draw_wipe(
    before_HWC: np.ndarray, after_HWC: np.ndarray, num_frames: int, colour_C: np.ndarray
) -> np.ndarray:
    """A slanted band of the broadcaster's colour that crosses the picture, uint8 [num_frames, H, W, C]: one picture before it, the
    other behind it."""
    size = before_HWC.shape[1]
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    along_HW = (x + 0.4 * y) / size
    frames_THWC = np.empty((num_frames, *before_HWC.shape), np.uint8)
    for t in range(num_frames):
        edge = -0.5 + 2.4 * (t + 1) / (num_frames + 1)
        frame_HWC = np.where((along_HW < edge)[..., None], after_HWC, before_HWC)
        frame_HWC[np.abs(along_HW - edge) < 0.22] = colour_C
        frame_HWC[np.abs(along_HW - edge) < 0.04] = _WHITE
        frames_THWC[t] = frame_HWC
    return frames_THWC


def _text(rng: np.random.Generator) -> str:
    return "".join(_LETTERS[i] for i in rng.integers(len(_LETTERS), size=int(rng.integers(4, 9))))


def _write(frame_HWC: np.ndarray, text: str, at: tuple[int, int], size: int) -> None:
    cv2.putText(frame_HWC, text, at, cv2.FONT_HERSHEY_SIMPLEX, size / 400, _WHITE, 1, cv2.LINE_AA)
