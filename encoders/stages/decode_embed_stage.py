"""Decoding and encoding as one stage, each worker with one process for both: frames never leave the device that decoded them.

D vector width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from encoders.decoding.sandbox.process import (
    DEFAULT_DEADLINE_S,
    DecoderDiedError,
    Sandbox,
    memory_limit_for,
)
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError, DecodeSetupError
from encoders.media.sampling import SamplingConfig
from encoders.stages.base import (
    MAX_DECODER_CRASHES_PER_VIDEO,
    ClipStage,
    clip_rows_of,
    decoded_columns,
    error_columns,
)
from encoders.stages.encode_request import (
    EncodedSpan,
    EncodeRequest,
    EncoderOptions,
    Encoding,
    VectorCodec,
    overlaps,
)

ENCODE_FUNCTION = "encoders.stages.decode_embed_worker:iter_encoded_spans"
"""What the process of a worker runs."""
_SLOWED_BY = 10.0
OpenAgain = Callable[[ExitStack], str]
"""Where a video lies on this machine while the stack is open; DecodeError where it cannot be had."""


class VectorStage(ClipStage):
    """As DecodeStage, for rows of several videos at once, and its rows have the columns of an embed stage instead of frames.

    Those are embedding (float32 [D], zeros with an error), vector_length, embed_backend, embed_precision, embed_busy_s,
    canary_min_cosine and embed_ceiling_per_s. Clips of several videos share batches, so rows come with those of a later video, at the latest by
    `flush`. After a crash or a hang, each clip that was not back is decoded alone. A broken encoder raises what
    `open_backend` and `check_encoder` raise.
    """

    def __init__(
        self,
        *,
        sampling: SamplingConfig,
        encode: EncoderOptions,
        backend: str = "pyav",
        deadline_s: float = DEFAULT_DEADLINE_S,
        device: str = "cpu",
        limits: MediaLimits | None = None,
    ) -> None:
        super().__init__(sampling=sampling, backend=backend, device=device, limits=limits)
        self._encode = encode
        self._tickets = count(1)
        self._pending: dict[int, _PendingVideo] = {}
        self._decode_busy_s = 0.0
        self._encoder: Sandbox[EncodeRequest, EncodedSpan] = Sandbox(
            ENCODE_FUNCTION,
            VectorCodec(),
            deadline_s=deadline_s,
            memory_limit_bytes=memory_limit_for(device),
            first_request=EncodeRequest(
                decode=self._request("", ()), encoder=encode, is_introduction=True
            ),
        )
        self._encoder.start()
        (first,) = self._encoder.first_replies
        if first.encoding is None:
            raise DecodeSetupError("the encoder did not say what it is")
        self._first: Encoding = first.encoding
        # A batch may be encoded before the next message comes, on a core that others use too.
        batch_s = encode.batch_size / self._first.embed_ceiling_per_s
        self._encoder.deadline_s += _SLOWED_BY * batch_s

    def __call__(self, videos: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Rows of videos in; the rows of all their clips when it ends."""
        for row in videos:
            yield from self.clips(row["video_uri"], clip_rows_of(row))
        yield from self.flush()

    def close(self) -> None:
        """End the process; the stage cannot be called again."""
        self._encoder.close()

    def busy_clock_s(self) -> float:
        """Seconds spent on decoding so far."""
        return self._decode_busy_s

    def clips(
        self,
        video: str,
        clip_rows: Sequence[dict[str, Any]],
        *,
        opened: ExitStack | None = None,
        open_again: OpenAgain | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Rows that are ready, of this video and of earlier ones.

        The video lies where it is while `opened`, which is closed as soon as it is decoded: before this ends on a CPU, elsewhere perhaps
        with a later call. `open_again` says where it lies when a clip that still waited for its batch is lost later; without it, where
        it lies now.
        """
        pending = _PendingVideo(
            video=video,
            spans=dict(enumerate(clip_rows)),
            opened=opened or ExitStack(),
            open_again=open_again or (lambda _: video),
        )
        try:
            yield from self._answers(pending, is_last=False)
        except DecoderDiedError as error:
            yield from self._one_by_one(error)
        finally:
            if not overlaps(self._device):
                pending.opened.close()

    def flush(self) -> Iterator[dict[str, Any]]:
        """The rows that still wait for a full batch."""
        if not self._pending:
            return
        try:
            yield from self._answers(_PendingVideo(), is_last=True)
        except DecoderDiedError as error:
            yield from self._one_by_one(error)

    def _answers(self, pending: "_PendingVideo", *, is_last: bool) -> Iterator[dict[str, Any]]:
        """Ask, and what comes back meanwhile. DecoderDiedError leaves what did not come in `_pending`."""
        ticket = next(self._tickets)
        self._pending[ticket] = pending
        request = EncodeRequest(
            decode=self._request(pending.video, list(pending.spans.values())),
            encoder=self._encode,
            ticket=ticket,
            is_last=is_last,
        )
        try:
            for reply in self._encoder.iter_replies(request):
                yield self._row(reply)
                self._forget_done()
        except DecoderDiedError:
            raise
        except DecodeError as error:
            for row in pending.spans.values():
                yield row | self._failed(error, self._backend, 0.0)
            pending.spans.clear()
        self._forget_done()

    def _row(self, reply: EncodedSpan) -> dict[str, Any]:
        pending, span = self._pending[reply.ticket], reply.span
        num_new = max(
            span.num_frames_decoded - pending.num_decoded, 0
        )  # spans that failed come early
        pending.num_decoded += num_new
        return pending.spans.pop(span.number) | self._outcome(reply) | {"frames_decoded": num_new}

    def _forget_done(self) -> None:
        for ticket in [ticket for ticket, pending in self._pending.items() if not pending.spans]:
            self._pending.pop(ticket).opened.close()

    def _one_by_one(self, crash: DecodeError) -> Iterator[dict[str, Any]]:
        """What was lost with the process, each clip alone: the one that crashed it crashes again, the others get their vectors."""
        lost = [pending for pending in self._pending.values() if pending.spans]
        for pending in self._pending.values():
            pending.opened.close()
        self._pending = {}
        for pending in lost:
            num_crashes = 0
            with ExitStack() as opened:
                try:
                    video = pending.open_again(opened)
                except DecodeError as error:
                    yield from self.failed_rows(list(pending.spans.values()), error, stage="fetch")
                    continue
                for row in pending.spans.values():
                    alone = _PendingVideo(video=video, spans={0: row})
                    if num_crashes < MAX_DECODER_CRASHES_PER_VIDEO:
                        try:
                            yield from self._answers(alone, is_last=True)
                        except DecoderDiedError as error:
                            num_crashes, crash = num_crashes + 1, error
                            self._pending.clear()
                    for lost_row in alone.spans.values():
                        yield lost_row | self._failed(crash, self._backend, 0.0)

    def _outcome(self, reply: EncodedSpan) -> dict[str, Any]:
        span, encoding = reply.span, reply.encoding
        if span.error is not None or encoding is None:
            error = span.error or DecodeError(
                "decoder_crashed", "no vector and no reason came back"
            )
            return self._failed(error, span.backend_used, 0.0)
        self._decode_busy_s += encoding.decode_busy_s
        return decoded_columns(span, encoding.decode_busy_s) | _encoded_columns(encoding)

    def _failed(
        self, error: DecodeError, backend: str, busy_s: float, *, stage: str = "decode"
    ) -> dict[str, Any]:
        nothing = replace(
            self._first,
            vector_D=np.zeros_like(self._first.vector_D),
            vector_length=0.0,
            embed_busy_s=0.0,
        )
        return error_columns(error, backend, busy_s, stage=stage) | _encoded_columns(nothing)


@dataclass(kw_only=True, slots=True)
class _PendingVideo:
    """Clips of a video that are on their way through the process, by span number."""

    video: str = ""
    spans: dict[int, dict[str, Any]] = field(default_factory=dict)
    opened: ExitStack = field(default_factory=ExitStack)
    open_again: OpenAgain = lambda _: ""
    num_decoded: int = 0


def _encoded_columns(encoding: Encoding) -> dict[str, Any]:
    return {
        "embedding": encoding.vector_D,
        "vector_length": encoding.vector_length,
        "embed_backend": encoding.backend,
        "embed_precision": encoding.precision,
        "embed_busy_s": encoding.embed_busy_s,
        "canary_min_cosine": encoding.canary_min_cosine,
        "embed_ceiling_per_s": encoding.embed_ceiling_per_s,
    }
