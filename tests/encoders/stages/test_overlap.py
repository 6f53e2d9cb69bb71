"""Decoding and encoding really run at once, several videos too; what lies between is bounded, and errors find their clips."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.errors import DecodeError, DecodeSetupError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from encoders.stages.encode_request import EncodedSpan, EncodeRequest, EncoderOptions
from encoders.stages.overlap import OverlappedEncoder

WAIT_S = 60.0


def decoded(number: int, frames_THWC: np.ndarray | None, error=None) -> DecodedSpan:
    return DecodedSpan(
        number=number, frames_THWC=frames_THWC, frame_indices_T=None, error=error, backend_used="pyav",
        fallback_reason=None, num_frames_decoded=1,
    )  # fmt: skip


class FakeEncoder:
    """Spans of 100 bytes; tests put waiting and errors into both halves."""

    clock_s = staticmethod(time.perf_counter)
    batch_size = 2

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []
        self._waiting: list[tuple[DecodedSpan, int]] = []
        self.num_decoded = 0
        self.threads: set[str] = set()

    def before_decoding(self, video: str, number: int) -> None: ...
    def before_encoding(self) -> None: ...

    @contextmanager
    def stream(self):
        self.threads.add(threading.current_thread().name)
        yield

    def spans(self, request):
        for number in range(len(request.spans)):
            self.before_decoding(request.video, number)
            self.num_decoded += 1
            yield decoded(number, np.zeros((1, 10, 10, 1), np.uint8))

    def num_bytes(self, span):
        return 0 if span.frames_THWC is None else span.frames_THWC.nbytes

    def add(self, span, ticket, busy_s):
        self._waiting.append((span, ticket))

    def encoded(self, *, is_last):
        assert is_last
        self.before_encoding()
        now, self._waiting = self._waiting, []
        self.batches.append([(ticket, span.number) for span, ticket in now])
        yield None
        for span, ticket in now:
            yield EncodedSpan(span=span, encoding=None, ticket=ticket)


def request(video: str, ticket: int, *, num_spans: int, is_last: bool = False) -> EncodeRequest:
    return EncodeRequest(
        decode=DecodeRequest(
            video=video,
            spans=tuple(Span(start_s=n, end_s=n + 1) for n in range(num_spans)),
            sampling=SamplingConfig(num_frames=1, frame_size=10),
        ),
        encoder=EncoderOptions(bundle_dir="b", backend="torch", batch_size=2),
        ticket=ticket,
        is_last=is_last,
    )


def replies(overlapped, given) -> list[tuple[int, int]]:
    return [(one.ticket, one.span.number) for one in overlapped.iter_encoded(given) if one]


def test_a_batch_is_encoded_while_the_next_one_is_decoded():
    """Each half waits for the other: one after the other they would never end."""
    encoder = FakeEncoder()
    third_is_wanted, first_is_encoded = threading.Event(), threading.Event()

    def before_decoding(_video, number):
        if number == 2:
            third_is_wanted.set()
            assert first_is_encoded.wait(WAIT_S)

    def before_encoding():
        assert third_is_wanted.wait(WAIT_S)
        first_is_encoded.set()

    encoder.before_decoding, encoder.before_encoding = before_decoding, before_encoding
    found = replies(
        OverlappedEncoder(encoder, num_sessions=1), request("a", 1, num_spans=5, is_last=True)
    )
    assert found == [(1, n) for n in range(5)]
    assert [len(batch) for batch in encoder.batches] == [2, 2, 1]
    assert encoder.threads == {"encode"}


def test_as_many_videos_are_decoded_at_once_as_there_are_sessions():
    encoder = FakeEncoder()
    together = threading.Barrier(3)
    encoder.before_decoding = lambda _video, _number: together.wait(WAIT_S)
    overlapped = OverlappedEncoder(encoder, num_sessions=3)
    found = []
    for n in range(3):
        found += replies(overlapped, request(f"{n}", n, num_spans=2))
    found += replies(overlapped, request("", 9, num_spans=0, is_last=True))
    assert sorted(found) == [(video, n) for video in range(3) for n in range(2)]
    assert list(overlapped.iter_encoded(request("", 10, num_spans=0, is_last=True))) == []


def test_decoded_clips_that_wait_are_bounded_by_their_bytes():
    encoder = FakeEncoder()
    may_encode = threading.Event()
    encoder.before_encoding = lambda: may_encode.wait(WAIT_S) and None
    overlapped = OverlappedEncoder(encoder, num_sessions=2, max_bytes=450)
    for n in range(2):
        replies(overlapped, request(f"{n}", n, num_spans=20))
    give_up = time.monotonic() + WAIT_S
    # A batch of two with the encoder, four that wait, and one in each session's hands.
    while encoder.num_decoded < 8 and time.monotonic() < give_up:
        time.sleep(0.01)
    time.sleep(0.1)
    assert encoder.num_decoded == 8
    may_encode.set()
    found = replies(overlapped, request("", 2, num_spans=0, is_last=True))
    assert sorted(found) == [(video, n) for video in range(2) for n in range(20)]


def test_a_batch_larger_than_the_bound_is_gathered_all_the_same():
    encoder = FakeEncoder()
    found = replies(
        OverlappedEncoder(encoder, max_bytes=1), request("a", 1, num_spans=4, is_last=True)
    )
    assert sorted(found) == [(1, n) for n in range(4)]
    assert [len(batch) for batch in encoder.batches] == [2, 2]


def test_an_error_of_a_video_comes_with_each_of_its_clips_and_costs_no_other():
    encoder = FakeEncoder()

    def before_decoding(video, number):
        if video == "bad" and number == 1:
            raise DecodeError("corrupt_container", "planted")

    encoder.before_decoding = before_decoding
    overlapped = OverlappedEncoder(encoder, num_sessions=2)
    found = []
    for n, video in enumerate(("good", "bad", "fine")):
        found += list(overlapped.iter_encoded(request(video, n, num_spans=3)))
    found += list(overlapped.iter_encoded(request("", 5, num_spans=0, is_last=True)))
    found = {(one.ticket, one.span.number): one.span.error for one in found if one}
    assert len(found) == 9
    assert {key for key, error in found.items() if error} == {(1, 1), (1, 2)}
    assert {str(error) for error in found.values() if error} == {"corrupt_container: planted"}


@pytest.mark.parametrize("half", ["before_decoding", "before_encoding"])
def test_an_error_that_is_no_video_s_is_raised(half):
    encoder = FakeEncoder()

    def fail(*_others):
        raise DecodeSetupError("the encoder failed")

    setattr(encoder, half, fail)
    with pytest.raises(DecodeSetupError, match="the encoder failed"):
        replies(OverlappedEncoder(encoder), request("a", 1, num_spans=3, is_last=True))
