"""Decoding and encoding as one stage, each worker with one process for both: frames never leave the device that decoded them.

D vector width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from encoders.decode import DecodedSpan, DecodeError, DecodeRequest
from encoders.encode_request import EncodeRequest, Encoding
from encoders.isolate import DEFAULT_DEADLINE_S, decoder_for
from encoders.media import DecodeBackendKind, DecodeSetupError
from encoders.sampling import SamplingConfig
from encoders.stages import DecodeStage, dead_columns, decoded_columns

# The child may be gone after these, and with it what it had decoded and not yet encoded.
_MAY_BE_FATAL = ("decoder_crashed", "decode_timeout", "limit_exceeded")


class VectorStage(DecodeStage):
    """DecodeStage whose rows have the columns of an embed stage instead of frames.

    Those are embedding (float32 [D], zeros when dead), embed_backend, embed_precision, embed_busy_s, canary_min_cosine and
    embed_ceiling_per_s. The clips of one video share batches. After a crash or a hang the clips that were not back yet are done
    again, one by one, so that whatever decodes has its vector. A broken encoder raises DecodeSetupError.
    """

    def __init__(
        self,
        *,
        sampling: SamplingConfig,
        encode: EncodeRequest,
        backend: DecodeBackendKind = "pyav",
        deadline_s: float = DEFAULT_DEADLINE_S,
        device: str = "cpu",
    ) -> None:
        super().__init__(sampling=sampling, backend=backend, isolate=False, device=device)
        self._encode = encode
        self._riders: list[tuple[int, dict[str, Any]]] = []
        self._riding: tuple[int, ...] = ()
        self._decode_busy_s = 0.0
        self._encoder = decoder_for(
            device,
            deadline_s=deadline_s,
            decode_function="encoders.clip_vectors:iter_encoded_spans",
            first_request=replace(super()._request("", ()), encode=replace(encode, canaries=(0,))),
        )
        self._iter_spans = self._iter_encoded
        self._encoder.start()
        (first,) = self._encoder.first_spans
        if first.encoding is None:
            raise DecodeSetupError("the encoder gave a canary no vector")
        self._first: Encoding = first.encoding

    def ride(self, canaries: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Drawn clips (number, row) that share a batch with clips of the next video; their rows come out with its rows."""
        self._riders = list(canaries)

    def close(self) -> None:
        """End the process; the stage cannot be called again."""
        self._encoder.close()

    def busy_clock_s(self) -> float:
        """Seconds spent on decoding so far."""
        return self._decode_busy_s

    def _clips(
        self, video_uri: str, clip_rows: Sequence[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        riders, self._riders = self._riders, []
        self._riding = tuple(number for number, _ in riders)
        yield from super()._clips(video_uri, [*clip_rows, *(row for _, row in riders)])

    def _request(self, video_uri: str, clip_rows: Sequence[dict[str, Any]]) -> DecodeRequest:
        num_spans = len(clip_rows) - len(self._riding)
        request = super()._request(video_uri, clip_rows[:num_spans])
        return replace(request, encode=replace(self._encode, canaries=self._riding))

    def _iter_encoded(self, request: DecodeRequest) -> Iterator[DecodedSpan]:
        encode = request.encode
        assert encode is not None  # _request sets it
        num_spans = len(request.spans)
        waiting = dict.fromkeys(range(num_spans + len(encode.canaries)))
        try:
            for span in self._encoder.iter_spans(request):
                del waiting[span.number]
                yield span
        except DecodeError as error:
            if error.reason not in _MAY_BE_FATAL:
                raise
        else:
            return
        riders = [number for number in waiting if number >= num_spans]
        if riders:  # first, and without the video
            canaries = tuple(encode.canaries[number - num_spans] for number in riders)
            alone = replace(request, spans=(), encode=replace(encode, canaries=canaries))
            for span in self._encoder.iter_spans(alone):
                yield replace(span, number=riders[span.number])
        lost = [number for number in waiting if number < num_spans]
        if lost:
            one_by_one = replace(encode, batch_size=1, canaries=())
            spans = tuple(request.spans[number] for number in lost)
            for span in self._encoder.iter_spans(replace(request, spans=spans, encode=one_by_one)):
                yield replace(span, number=lost[span.number])

    def _outcome(self, span: DecodedSpan, busy_s: float) -> dict[str, Any]:
        if span.error is not None or span.encoding is None:
            error = span.error or DecodeError(
                "decoder_crashed", "no vector and no reason came back"
            )
            return self._dead(error, span.backend_used, 0.0)
        self._decode_busy_s += span.encoding.decode_busy_s
        return decoded_columns(span, span.encoding.decode_busy_s) | _encoded_columns(span.encoding)

    def _dead(self, error: DecodeError, backend: str, busy_s: float) -> dict[str, Any]:
        nothing = replace(
            self._first, vector_D=np.zeros_like(self._first.vector_D), embed_busy_s=0.0
        )
        return dead_columns(error, backend, busy_s) | _encoded_columns(nothing)


def _encoded_columns(encoding: Encoding) -> dict[str, Any]:
    return {
        "embedding": encoding.vector_D,
        "embed_backend": encoding.backend,
        "embed_precision": encoding.precision,
        "embed_busy_s": encoding.embed_busy_s,
        "canary_min_cosine": encoding.canary_min_cosine,
        "embed_ceiling_per_s": encoding.embed_ceiling_per_s,
    }
