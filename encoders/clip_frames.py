"""The frames of an archive's clips one after the other, for measuring an encoder on them; decoded in a process that can be killed."""

from collections.abc import Iterable, Iterator

import numpy as np

from encoders.clips import Clip
from encoders.decode import DecodeError, DecodeRequest, Span
from encoders.isolate import IsolatedDecoder
from encoders.sampling import SamplingConfig

_DEADLINE_S = 60.0


def iter_clip_frames(
    clips: Iterable[Clip], sampling: SamplingConfig
) -> Iterator[tuple[Clip, np.ndarray | DecodeError]]:
    """Each clip with its frames [T, H, W, 3], or with why it has none."""
    with IsolatedDecoder(deadline_s=_DEADLINE_S) as decoder:
        for clip in clips:
            span = Span(start_s=clip.start_s, end_s=clip.end_s)
            request = DecodeRequest(video=clip.video_uri, spans=(span,), sampling=sampling)
            try:
                decoded = decoder.decode(request)
            except DecodeError as error:
                yield clip, error
            else:
                yield clip, decoded.errors[0] or decoded.frames_NTHWC[0]
