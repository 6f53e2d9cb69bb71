"""Decoding in a killable child process: a crash or a hang inside a codec costs one video, not the worker.

The child is kept for the next video and started again after it died. It is a fresh interpreter, not a fork, so it holds
nothing of a large parent.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np

from encoders.clips import Clip
from encoders.decoding.decode import DecodedClips, collect_spans
from encoders.decoding.request import DecodedSpan, DecodeRequest, request_to_dict, span_from_dict
from encoders.decoding.sandbox import SandboxProcess, setup_error
from encoders.media.errors import DecodeError, DecodeSetupError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

DEFAULT_MEMORY_LIMIT_BYTES = 4 << 30
DEFAULT_DEADLINE_S = 120.0


# A large encoder on a slow core embeds its canaries meanwhile.
_FIRST_TIMEOUT_S = 900.0


class DecoderDiedError(DecodeError):
    """The child crashed, hung or ran out of memory; what it had not given back is lost with it."""


class IsolatedDecoder:
    """`iter_spans` as a method, in a child process with a deadline and a memory limit.

    `deadline_s` is the longest wait for the next sign of life, a span or a clip that waits for its batch, so that a long video
    with many spans is no hang. `memory_limit_bytes` is what a child may take beyond what it holds when `first_request` is answered.
    `decode_function` ("module:function") is what the child calls. `first_request` is asked of every new child before any other,
    with a deadline of minutes: what it loads for that, it keeps. `first_spans` are the answer.
    """

    def __init__(
        self,
        *,
        deadline_s: float,
        memory_limit_bytes: int | None = DEFAULT_MEMORY_LIMIT_BYTES,
        decode_function: str = "encoders.decoding.decode:iter_spans",
        first_request: DecodeRequest | None = None,
    ) -> None:
        if deadline_s <= 0:
            raise ValueError(f"deadline_s is {deadline_s}; it must be above 0")
        self.deadline_s = deadline_s
        self._memory_limit_bytes = memory_limit_bytes or 0
        self._decode_function = decode_function
        self._first_request = first_request
        self.first_spans: list[DecodedSpan] = []
        self._child: SandboxProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def iter_spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]:
        """Spans that arrived before an error are good; the error then stands for the rest of the video.

        DecoderDiedError where the decoder, not the file, had the last word: other spans of the video may still decode.
        """
        self.start()
        yield from self._ask(request, self.deadline_s, self._memory_limit_bytes)

    def start(self) -> None:
        """Start the child where none runs."""
        if self._child is not None:
            return
        self._child = SandboxProcess(self._decode_function)
        if self._first_request is not None:
            try:
                self.first_spans = list(self._ask(self._first_request, _FIRST_TIMEOUT_S, 0))
            except DecodeError as error:
                raise DecodeSetupError(f"the decoding process cannot start: {error}") from error

    def _ask(
        self, request: DecodeRequest, deadline_s: float, memory_limit_bytes: int
    ) -> Iterator[DecodedSpan]:
        child = self._child
        assert child is not None
        is_in_step = False
        try:
            limits = {"deadline_s": deadline_s, "memory_limit_bytes": memory_limit_bytes}
            child.send({"request": request_to_dict(request), **limits})
            while True:
                header, payload = child.receive(deadline_s)
                if header["kind"] == "span":
                    yield span_from_dict(header["span"], payload)
                if header["kind"] in ("span", "at_work"):
                    continue
                is_in_step = header["kind"] in ("end", "video_error")
                break
        finally:
            if not is_in_step:  # crashed, hung, or the reader left early: the pipes are out of step
                self.close()
        if header["kind"] == "setup_error":
            raise setup_error(header)
        if header["kind"] != "end":
            kind = DecoderDiedError if header["kind"] == "fatal" else DecodeError
            raise kind(header["reason"], header["detail"])

    def decode(self, request: DecodeRequest) -> DecodedClips:
        """All spans as one block, as `decode_clips` gives them."""
        return collect_spans(request, self.iter_spans(request))

    def cpu_s(self) -> float:
        """CPU-seconds of the thread that decodes, since its process started; 0 where none runs."""
        return 0.0 if self._child is None else self._child.cpu_s()


def decoder_for(
    device: str, *, deadline_s: float = DEFAULT_DEADLINE_S, **others: Any
) -> IsolatedDecoder:
    """A decoder with the limits that suit where it decodes, `cpu` or `cuda`; `others` as for IsolatedDecoder."""
    # CUDA and the GPU's pinned memory are private mappings too: no limit that makes sense for them.
    limit_bytes = DEFAULT_MEMORY_LIMIT_BYTES if device == "cpu" else None
    return IsolatedDecoder(deadline_s=deadline_s, memory_limit_bytes=limit_bytes, **others)


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
