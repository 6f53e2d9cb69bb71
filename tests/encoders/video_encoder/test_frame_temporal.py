"""The frame-temporal encoder: what order does to it, what its controls see, and that the image part stays as it is."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from encoders.video_encoder.config import (
    FrameTemporalConfig,
    PoseImageConfig,
    video_config_from_dict,
    video_config_to_dict,
)
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder, load_pretrained_image
from encoders.video_encoder.registry import build_video_encoder

SMALL = FrameTemporalConfig(
    num_frames=5,
    image=PoseImageConfig(image_size=16, conv_widths=(4, 6), feature_dim=7, pose_dim=3),
    embedding_dim=8,
    depth=2,
    num_heads=2,
)


def make(temporal="ordered", seed=0, **changes):
    torch.manual_seed(seed)
    return FrameTemporalEncoder(dataclasses.replace(SMALL, temporal=temporal, **changes))


def random_frames(num_clips=3, num_frames=5, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (num_clips, num_frames, 16, 16, 3), np.uint8))


def test_frame_vectors_are_those_of_each_frame_alone():
    encoder, frames = make().eval(), random_frames(2, 4)
    together = encoder.frame_vectors(frames)
    for clip in range(2):
        for t in range(4):
            alone = encoder.image(frames[clip, t][None])[0]
            torch.testing.assert_close(together[clip, t], alone)
    assert together.shape == (2, 4, 10)


def test_forward_is_pool_of_frame_vectors_at_unit_length():
    encoder, frames = make().eval(), random_frames()
    pooled = encoder.pool(encoder.frame_vectors(frames))
    torch.testing.assert_close(encoder.features(frames), pooled)
    torch.testing.assert_close(encoder(frames), pooled / pooled.norm(dim=1, keepdim=True))


def test_only_the_ordered_encoder_sees_order():
    frames = random_frames()
    order = torch.tensor([3, 0, 4, 2, 1])
    for temporal, sees_order in (("ordered", True), ("mean", False), ("single", False)):
        encoder = make(temporal).eval()
        same = torch.allclose(encoder(frames), encoder(frames[:, order]), atol=1e-6)
        assert same is not sees_order, temporal


def test_head_on_a_control_gives_the_mean_of_the_frames_logits():
    encoder, head = make("single").eval(), nn.Linear(8, 4)
    vectors = encoder.frame_vectors(random_frames(2, 9))
    one_by_one = torch.stack([head(encoder.pool(vectors[:, t : t + 1])) for t in range(9)])
    torch.testing.assert_close(head(encoder.pool(vectors)), one_by_one.mean(dim=0))


def test_single_trains_on_one_of_the_frames():
    encoder = make("single", dropout=0.0).train()
    vectors = encoder.frame_vectors(random_frames(1, 5))
    each = torch.stack([encoder.pool(vectors[:, t : t + 1])[0] for t in range(5)])
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        distance = (each - encoder.pool(vectors)[0]).abs().amax(dim=1)
        assert distance.min() < 1e-6
        seen.add(int(distance.argmin()))
    assert seen == {0, 1, 2, 3, 4}


def test_training_leaves_the_image_part_alone():
    encoder = make().train()
    before = {name: value.clone() for name, value in encoder.image.state_dict().items()}
    optimizer = torch.optim.AdamW(
        [parameter for parameter in encoder.parameters() if parameter.requires_grad], lr=0.1
    )
    for _step in range(2):
        loss = encoder.features(random_frames()).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in encoder.image.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert encoder.positions.grad is not None


def test_wrong_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="7 frame vectors a clip; this encoder takes 5"):
        make().eval()(random_frames(1, 7))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_dim": 9}, "multiple of num_heads"),
        ({"temporal": "shuffled"}, "'shuffled'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_frames": 0}, "num_frames 0"),
    ],
)
def test_config_names_the_wrong_value(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_config_survives_the_card():
    values = video_config_to_dict(SMALL)
    assert video_config_from_dict(values) == SMALL
    assert isinstance(build_video_encoder(video_config_from_dict(values)), FrameTemporalEncoder)


def test_shipped_image_part_of_another_shape_is_refused(monkeypatch):
    other = make(image=dataclasses.replace(SMALL.image, feature_dim=9)).image
    monkeypatch.setattr("encoders.video_encoder.frame_temporal.load_pose_image", lambda name: other)
    with pytest.raises(ValueError, match="feature_dim=9"):
        load_pretrained_image(make(), "other")


def test_onnx_equals_torch_for_any_number_of_clips(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder = make().eval()
    path = tmp_path / "video.onnx"
    torch.onnx.export(
        encoder,
        (random_frames(2),),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        input_names=["frames"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path)
    for num_clips in (1, 4):
        frames = random_frames(num_clips, seed=num_clips)
        (found,) = session.run(None, {"frames": frames.numpy()})
        np.testing.assert_allclose(found, encoder(frames).detach().numpy(), atol=1e-5)
