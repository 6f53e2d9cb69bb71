"""Decoding in a child process: a crash or a hang inside a codec costs one video, not the worker."""

from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np

from encoders.clips import Clip
from encoders.decoding.decode import DecodedClips, collect_spans
from encoders.decoding.request import (
    DecodedSpan,
    DecodeRequest,
    FrameCodec,
    TimelineBlock,
    TimelineCodec,
    TimelineRequest,
)
from encoders.decoding.sandbox.process import (
    DEFAULT_DEADLINE_S,
    DEFAULT_MEMORY_LIMIT_BYTES,
    Sandbox,
    memory_limit_for,
)
from encoders.media.container import LIMITS_OF_AN_ARCHIVE
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

_CLIP_DEADLINE_S = 60.0


class IsolatedDecoder(Sandbox[DecodeRequest, DecodedSpan]):
    """`iter_spans` as a method; see Sandbox. `decode_function` ("module:function") is what the child calls; a `niceness` leaves the cores to others."""

    def __init__(
        self,
        *,
        deadline_s: float,
        memory_limit_bytes: int | None = DEFAULT_MEMORY_LIMIT_BYTES,
        decode_function: str = "encoders.decoding.decode:iter_spans",
        first_request: DecodeRequest | None = None,
        niceness: int = 0,
    ) -> None:
        super().__init__(
            decode_function,
            FrameCodec(),
            deadline_s=deadline_s,
            memory_limit_bytes=memory_limit_bytes,
            first_request=first_request,
            niceness=niceness,
        )

    def iter_spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]:
        """See Sandbox.iter_replies."""
        return self.iter_replies(request)

    def decode(self, request: DecodeRequest) -> DecodedClips:
        """All spans as one block, as `decode_clips` gives them."""
        return collect_spans(request, self.iter_spans(request))


def decoder_for(
    device: str, *, deadline_s: float = DEFAULT_DEADLINE_S, **others: Any
) -> IsolatedDecoder:
    """A decoder with the limits that suit where it decodes, `cpu` or `cuda`; `others` as for IsolatedDecoder."""
    limit_bytes = memory_limit_for(device)
    return IsolatedDecoder(deadline_s=deadline_s, memory_limit_bytes=limit_bytes, **others)


class IsolatedTimeline(Sandbox[TimelineRequest, TimelineBlock]):
    """`iter_timeline` as a method; see Sandbox."""

    def __init__(self, *, deadline_s: float) -> None:
        function = "encoders.decoding.decode:iter_timeline"
        super().__init__(function, TimelineCodec(), deadline_s=deadline_s)

    def iter_blocks(self, request: TimelineRequest) -> Generator[TimelineBlock]:
        """See Sandbox.iter_replies."""
        return self.iter_replies(request)


def iter_clip_frames(
    clips: Iterable[Clip], sampling: SamplingConfig
) -> Iterator[tuple[Clip, np.ndarray | DecodeError]]:
    """Each clip with its frames [T, H, W, 3], or with why it has none."""
    with IsolatedDecoder(deadline_s=_CLIP_DEADLINE_S) as decoder:
        for clip in clips:
            span = Span(start_s=clip.start_s, end_s=clip.end_s)
            request = DecodeRequest(
                video=clip.video_uri, spans=(span,), sampling=sampling, limits=LIMITS_OF_AN_ARCHIVE
            )
            try:
                decoded = decoder.decode(request)
            except DecodeError as error:
                yield clip, error
            else:
                yield clip, decoded.errors[0] or decoded.frames_NTHWC[0]
