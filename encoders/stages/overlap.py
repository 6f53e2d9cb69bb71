"""Decoding of several videos and encoding at the same time, in one process on one device.

Threads decode, each with a session of the hardware to itself; one thread encodes, on a stream of its own; between them lie decoded
clips, bounded by their bytes. So the process is as fast as the slower of the two, and no frame leaves the device.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.errors import DecodeError
from encoders.stages.encode_request import EncodedSpan, EncodeRequest

NUM_SESSIONS = 8
"""Videos that are decoded at once: no GPU has more engines (NVDEC Application Note, table 1), and an idle session holds surfaces only."""
MAX_WAITING_BYTES = 512 << 20
"""Of decoded clips that wait for the encoder; a full batch may wait in any case."""


class Encoder(Protocol):
    """What ClipEncoder does, of which `add` and `encoded` are called by one thread only."""

    clock_s: Callable[[], float]

    @property
    def batch_size(self) -> int: ...
    def spans(self, request: DecodeRequest) -> Iterator[DecodedSpan]: ...
    def num_bytes(self, span: DecodedSpan) -> int:
        """Of its frames, once they are there in full; 0 without."""
        ...

    def add(self, span: DecodedSpan, ticket: int, busy_s: float) -> bool: ...
    def encoded(self, *, is_last: bool) -> Iterator[EncodedSpan | None]: ...
    def stream(self) -> AbstractContextManager[object]:
        """Around all that the encoding thread does."""
        ...


class _Clip(NamedTuple):
    span: DecodedSpan
    ticket: int
    busy_s: float
    num_bytes: int


class OverlappedEncoder:
    """`iter_encoded` for requests of one video each, which end while up to `num_sessions` videos are still decoded.

    Their clips come with a later request, at the latest with one that is the last. An error of a video comes as one of each of its
    clips that was not back; any other error is raised by the request that meets it, and ends the encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        num_sessions: int = NUM_SESSIONS,
        max_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._encoder = encoder
        self._num_sessions, self._max_bytes = num_sessions, max_bytes
        self._jobs: SimpleQueue[EncodeRequest] = SimpleQueue()
        # All below belongs to whoever holds it; every change is told to all.
        self._changed = threading.Condition()
        self._num_videos = 0
        self._clips: deque[_Clip] = deque()
        self._waiting_bytes = 0
        self._is_encoding = self._is_last = False
        self._results: deque[EncodedSpan | BaseException | None] = deque()
        for _ in range(num_sessions):
            threading.Thread(target=self._decode, name="decode", daemon=True).start()
        threading.Thread(target=self._encode, name="encode", daemon=True).start()

    def iter_encoded(self, request: EncodeRequest) -> Iterator[EncodedSpan | None]:
        """What is ready, of this request and of earlier ones; None as a sign of life."""
        with self._changed:
            self._is_last = request.is_last
            if request.decode.spans:
                self._num_videos += 1
                self._jobs.put(request)
            self._changed.notify_all()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._results or self._is_done())
                results = [*self._results]
                self._results.clear()
                is_done = self._is_done()
            for result in results:
                if isinstance(result, BaseException):
                    raise result
                yield result
            if is_done:
                return

    def _is_done(self) -> bool:
        if not self._is_last:
            return self._num_videos <= self._num_sessions
        return not (self._num_videos or self._clips or self._is_encoding)

    def _tell(self, *results: EncodedSpan | BaseException | None) -> None:
        with self._changed:
            self._results.extend(results)
            self._changed.notify_all()

    def _decode(self) -> None:
        while True:
            request = self._jobs.get()
            missing = dict.fromkeys(range(len(request.decode.spans)))
            try:
                started = self._encoder.clock_s()
                for span in self._encoder.spans(request.decode):
                    del missing[span.number]
                    num_bytes = self._encoder.num_bytes(span)
                    busy_s = self._encoder.clock_s() - started
                    if num_bytes:
                        self._put(span, request.ticket, busy_s, num_bytes)
                    else:
                        self._tell(EncodedSpan(span=span, encoding=None, ticket=request.ticket))
                    started = self._encoder.clock_s()
            except DecodeError as error:
                self._tell(*(_failed(request, number, error) for number in missing))
            except BaseException as error:  # noqa: BLE001 - a thread that ended would leave the request waiting
                self._tell(error)
            with self._changed:
                self._num_videos -= 1
                self._changed.notify_all()

    def _put(self, span: DecodedSpan, ticket: int, busy_s: float, num_bytes: int) -> None:
        """Waits while the encoder has more than enough."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._waiting_bytes + num_bytes <= self._max_bytes
                    or len(self._clips) < self._encoder.batch_size
                )
            )
            self._clips.append(_Clip(span, ticket, busy_s, num_bytes))
            self._waiting_bytes += num_bytes
            self._results.append(None)
            self._changed.notify_all()

    def _encode(self) -> None:
        with self._encoder.stream():
            while True:
                batch = self._next_batch()
                try:
                    for clip in batch:
                        self._encoder.add(clip.span, clip.ticket, clip.busy_s)
                    for reply in self._encoder.encoded(is_last=True):
                        self._tell(reply)
                except BaseException as error:  # noqa: BLE001 - as above
                    self._tell(error)
                batch.clear()  # its frames, before the next one is waited for
                with self._changed:
                    self._is_encoding = False
                    self._changed.notify_all()

    def _next_batch(self) -> list[_Clip]:
        """A full one, or the last clips once all videos are decoded and no request is to come."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    len(self._clips) >= self._encoder.batch_size
                    or (self._is_last and not self._num_videos and self._clips)
                )
            )
            size = min(len(self._clips), self._encoder.batch_size)
            batch = [self._clips.popleft() for _ in range(size)]
            self._waiting_bytes -= sum(clip.num_bytes for clip in batch)
            self._is_encoding = True
            self._changed.notify_all()
        return batch


def _failed(request: EncodeRequest, number: int, error: DecodeError) -> EncodedSpan:
    span = DecodedSpan(
        number=number,
        frames_THWC=None,
        frame_indices_T=None,
        error=error,
        backend_used=request.decode.backend,
        fallback_reason=None,
        num_frames_decoded=0,
    )
    return EncodedSpan(span=span, encoding=None, ticket=request.ticket)
