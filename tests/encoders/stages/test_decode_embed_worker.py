"""Both ways from a decoder to an encoder give the same vectors, and a process says that it is at work."""

import numpy as np
import pytest

from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.decoding.decode import decode_clips
from encoders.decoding.request import DecodeRequest
from encoders.media.frame_index import Span
from encoders.stages.decode_embed_worker import ClipEncoder, OnDevice, OnHost, iter_encoded_spans
from encoders.stages.encode_request import EncodeRequest

SPANS = (Span(start_s=0, end_s=1), Span(start_s=30, end_s=40), Span(start_s=1, end_s=2))


@pytest.fixture
def request_of(exported_video_bundle, make_video):
    def make(**encode) -> DecodeRequest:
        return DecodeRequest(
            video=str(make_video("a.mp4", num_frames=60)),
            spans=SPANS,
            sampling=read_card(exported_video_bundle).sampling,
            encode=EncodeRequest(bundle_dir=str(exported_video_bundle), backend="onnx", **encode),
        )

    return make


@pytest.mark.parametrize("way", [OnHost(), OnDevice("cpu")], ids=["host", "device"])
def test_the_vectors_are_those_of_the_frames(exported_video_bundle, request_of, way):
    request = request_of(batch_size=2)
    encoder = ClipEncoder(request.encode, "cpu", way)
    failed = []
    for span in encoder.spans(request):
        if not encoder.add(span, ticket=4, busy_s=0.5):
            failed.append(span)
    assert [(span.number, span.error.reason) for span in failed] == [(1, "span_outside_video")]
    encoder.add_canary(3, span_number=7, ticket=5, num_decoded=9)
    at_work, *first = encoder.encoded(is_last=False)
    assert at_work is None
    found = {span.number: span for span in first}
    assert found.keys() == {0, 2}  # the canary waits for a full batch
    found |= {span.number: span for span in list(encoder.encoded(is_last=True))[1:]}
    assert {number: span.encoding.ticket for number, span in found.items()} == {0: 4, 2: 4, 7: 5}
    assert (found[0].encoding.decode_busy_s, found[7].num_frames_decoded) == (0.5, 9)
    reference = open_backend(exported_video_bundle, "torch")
    frames_NTHWC = decode_clips(request.video, [SPANS[0], SPANS[2]], request.sampling).frames_NTHWC
    for span, expected_D in zip(
        (found[0], found[2]), reference.embed_clips(frames_NTHWC), strict=True
    ):
        assert span.frames_THWC is None
        assert span.device_frames_THWC is None
        np.testing.assert_allclose(span.encoding.vector_D, expected_D, atol=1e-5)


def test_a_decoded_clip_is_a_sign_of_life_and_waits_for_the_next_request(request_of):
    first = list(iter_encoded_spans(request_of(batch_size=3, ticket=1, is_last=False)))
    assert first.count(None) == 2
    (failed,) = [span for span in first if span is not None]
    assert failed.number == 1
    second = list(iter_encoded_spans(request_of(batch_size=3, ticket=2)))
    tickets = [span.encoding.ticket for span in second if span is not None and span.encoding]
    assert tickets == [1, 1, 2, 2]
