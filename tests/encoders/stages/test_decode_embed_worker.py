"""Both transports from a decoder to an encoder give the same vectors, and a process says that it is at work."""

from dataclasses import replace

import numpy as np
import pytest

from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.decoding.decode import decode_clips
from encoders.decoding.request import DecodeRequest
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.stages import decode_embed_worker
from encoders.stages.decode_embed_worker import (
    ClipEncoder,
    DeviceFrames,
    HostFrames,
    iter_encoded_spans,
)
from encoders.stages.encode_request import EncodeRequest, EncoderOptions

SPANS = (Span(start_s=0, end_s=1), Span(start_s=30, end_s=40), Span(start_s=1, end_s=2))


@pytest.fixture
def request_of(exported_video_bundle, make_video):
    def make(batch_size: int, **others) -> EncodeRequest:
        return EncodeRequest(
            decode=DecodeRequest(
                video=str(make_video("a.mp4", num_frames=60)),
                spans=SPANS,
                sampling=read_card(exported_video_bundle).sampling,
            ),
            encoder=EncoderOptions(
                bundle_dir=str(exported_video_bundle), backend="onnx", batch_size=batch_size
            ),
            **others,
        )

    return make


@pytest.mark.parametrize("transport", [HostFrames(), DeviceFrames("cpu")], ids=["host", "device"])
def test_the_vectors_are_those_of_the_frames(exported_video_bundle, request_of, transport):
    request = request_of(batch_size=2)
    encoder = ClipEncoder(request.encoder, "cpu", transport)
    failed = []
    for span in encoder.spans(request.decode):
        if not encoder.add(span, ticket=4, busy_s=0.5):
            failed.append(span)
    assert [(span.number, span.error.reason) for span in failed] == [(1, "span_outside_video")]
    (third,) = encoder.spans(replace(request.decode, spans=SPANS[:1]))
    assert encoder.add(replace(third, number=7), ticket=5, busy_s=0.0)
    at_work, *first = encoder.encoded(is_last=False)
    assert at_work is None
    encoded = {reply.span.number: reply for reply in first}
    assert encoded.keys() == {0, 2}  # the third waits for a full batch
    encoded |= {reply.span.number: reply for reply in list(encoder.encoded(is_last=True))[1:]}
    assert {number: reply.ticket for number, reply in encoded.items()} == {
        0: 4,
        2: 4,
        7: 5,
    }
    assert encoded[0].encoding.decode_busy_s == 0.5
    reference = open_backend(exported_video_bundle, "torch")
    frames_NTHWC = decode_clips(
        request.decode.video, [SPANS[0], SPANS[2]], request.decode.sampling
    ).frames_NTHWC
    for reply, expected_D in zip(
        (encoded[0], encoded[2]), reference.embed_clips(frames_NTHWC), strict=True
    ):
        assert reply.span.frames_THWC is None
        assert reply.span.device_frames_THWC is None
        np.testing.assert_allclose(reply.encoding.vector_D, expected_D, atol=1e-5)


def test_a_decoded_clip_is_a_sign_of_life_and_waits_for_the_next_request(request_of):
    first = list(iter_encoded_spans(request_of(batch_size=3, ticket=1, is_last=False)))
    assert first.count(None) == 2
    (failed,) = [reply for reply in first if reply is not None]
    assert failed.span.number == 1
    second = list(iter_encoded_spans(request_of(batch_size=3, ticket=2)))
    tickets = [reply.ticket for reply in second if reply is not None and reply.encoding]
    assert tickets == [1, 1, 2, 2]


def test_several_videos_at_once_give_the_same_vectors_and_errors(
    request_of, make_video, tmp_path, monkeypatch
):
    (tmp_path / "text.mp4").write_text("no video at all, however long the text is")
    videos = [
        *(make_video(f"{n}.mp4", num_frames=60 + 10 * n) for n in range(3)),
        tmp_path / "text.mp4",
    ]

    def answers() -> dict[tuple[int, int], object]:
        found: dict[tuple[int, int], object] = {}

        def take(request: EncodeRequest) -> None:
            for reply in iter_encoded_spans(request):
                if reply is not None:
                    what = reply.span.error if reply.encoding is None else reply.encoding.vector_D
                    found[reply.ticket, reply.span.number] = what

        for ticket, video in enumerate(videos):
            request = request_of(batch_size=2, ticket=ticket, is_last=False)
            try:
                take(replace(request, decode=replace(request.decode, video=str(video))))
            except DecodeError as error:
                found |= {(ticket, number): error for number in range(len(SPANS))}
        last = request_of(batch_size=2, ticket=9, is_last=True)
        take(replace(last, decode=replace(last.decode, spans=())))
        return found

    expected = answers()
    monkeypatch.setattr(decode_embed_worker, "overlaps", lambda _device: True)
    found = answers()
    assert found.keys() == expected.keys()
    assert len(found) == len(videos) * len(SPANS)
    for key, one in expected.items():
        if isinstance(one, DecodeError):
            assert str(found[key]) == str(one)
        else:
            np.testing.assert_allclose(found[key], one, atol=1e-6)
