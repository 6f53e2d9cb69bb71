"""What does a whole video show, and when? Every frame in order, small, block by block: for finding where its shots begin.

`iter_timeline` runs where `decode.iter_spans` runs, in the killable child, and under the same limits. F frames of a block, H W pixels.
"""

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from encoders.decode import DecodedSpan, DecodeRequest
from encoders.frame_image import resize_frame
from encoders.media import local_path

TIMELINE = "encoders.timeline:iter_timeline"
"""For IsolatedDecoder: its decode_function."""


def iter_timeline(request: DecodeRequest) -> Iterator[DecodedSpan]:
    """First a block without frames, whose times are the video's first and last second; then blocks of at most num_frames frames.

    A request without spans asks for the first block alone, which decodes nothing. A frame that cannot be decoded is left out of its
    block. DecodeError for a file that cannot be read at all.
    """
    from encoders.decode_pyav import PyavVideo  # av only where it decodes

    sampling = request.sampling
    with closing(PyavVideo(local_path(request.video), request.limits, sampling)) as video:
        shown_s = video.index.shown_times_s
        request.limits.check(max_duration_s=shown_s[-1])
        step_s = float(np.median(np.diff(shown_s))) if len(shown_s) > 1 else 0.0
        times_s = np.append(shown_s, shown_s[-1] + step_s)
        yield _block(0, [], [], times_s[[0, -1]])
        numbers: list[int] = []
        frames: list[np.ndarray] = []
        block, last = 1, -1
        for number, picture_HWC in video.read_frames(range(len(shown_s)) if request.spans else ()):
            if picture_HWC is not None and number > last:  # a second reading comes too late
                last = number
                numbers.append(number)
                frames.append(resize_frame(picture_HWC, sampling.frame_size))
            if len(numbers) == sampling.num_frames:
                yield _block(block, numbers, frames, times_s)
                numbers, frames, block = [], [], block + 1
        if numbers:
            yield _block(block, numbers, frames, times_s)


def _block(
    number: int, numbers: list[int], frames: list[np.ndarray], times_s: np.ndarray
) -> DecodedSpan:
    own_s = times_s[[*numbers, numbers[-1] + 1]] if numbers else times_s
    return DecodedSpan(
        number=number,
        frames_THWC=np.stack(frames) if frames else None,
        frame_indices_T=np.array(numbers, np.int64),
        error=None,
        backend_used="pyav",
        fallback_reason=None,
        num_frames_decoded=len(numbers),
        times_s=own_s,
    )
