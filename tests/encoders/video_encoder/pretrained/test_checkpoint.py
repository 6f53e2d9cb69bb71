"""Checkpoint files as they are published: every prefix and wrapper is understood, and no file can run anything."""

import argparse
import collections
import os

import numpy as np
import pytest
import safetensors.torch
import torch

from benchmarks.fidelity.encoder import random_encoder
from encoders.video_encoder.aim import is_learned
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.pretrained.checkpoint import read_checkpoint

AIM = AimConfig(num_frames=3, image_size=16, patch_size=8, width=8, depth=1, num_heads=2)


@pytest.fixture(scope="module")
def weights():
    return {n: v.clone() for n, v in random_encoder(AIM).float().state_dict().items()}


def saved(folder, values, name="checkpoint.pth"):
    torch.save(values, folder / name)
    return folder / name


def assert_same(found, expected):
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.", "module.backbone.", "model.model."])
@pytest.mark.parametrize("head", ["fc_cls.", "cls_head.fc_cls.", None])
def test_aim_checkpoints_of_all_prefixes_with_and_without_a_head(tmp_path, weights, prefix, head):
    values = {f"{prefix}{name}": value for name, value in weights.items()}
    head_values = {"weight": torch.randn(4, 8), "bias": torch.randn(4)}
    if head is not None:
        values |= {f"{head}{name}": value for name, value in head_values.items()}
    source = read_checkpoint(saved(tmp_path, values))
    assert source.kind == "aim"
    assert_same(source.tensors, weights)
    if head is None:
        assert source.head is None
    else:
        assert_same(source.head, head_values)
    assert source.ignored == ()


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_wrapped_state_dicts_come_with_what_training_programs_put_beside_them(
    tmp_path, weights, wrapper
):
    values = {
        wrapper: collections.OrderedDict((f"model.{n}", v) for n, v in weights.items()),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
        "meta": {"epoch": 3, "best": np.float64(0.5), "args": argparse.Namespace(lr=1e-3)},
    }
    assert_same(read_checkpoint(saved(tmp_path, values)).tensors, weights)


@pytest.mark.parametrize("file", ["clip.pt", "clip.safetensors"])
def test_openai_clip_gives_its_image_part_and_names_the_rest(tmp_path, weights, file):
    """The text tower has names of the image part without `visual.`: they must not be taken for it."""
    image = {name: value for name, value in weights.items() if not is_learned(name)}
    values = {f"visual.{name}": value.half() for name, value in image.items()}
    values |= {
        "visual.proj": torch.zeros(8, 4),
        "positional_embedding": torch.zeros(77, 4),
        "transformer.resblocks.0.ln_1.weight": torch.zeros(4),
        "token_embedding.weight": torch.zeros(5, 4),
        "logit_scale": torch.tensor(1.0),
    }
    path = tmp_path / file
    if file.endswith(".pt"):
        torch.save(values, path)
    else:
        safetensors.torch.save_file(values, path)
    source = read_checkpoint(path)
    assert source.kind == "clip"
    assert_same(source.tensors, {name: value.half() for name, value in image.items()})
    assert set(source.ignored) == {
        *("visual.proj", "positional_embedding", "transformer.resblocks.0.ln_1.weight"),
        *("token_embedding.weight", "logit_scale"),
    }


def test_the_bare_image_part_of_clip_is_known_by_its_lack_of_adapters(tmp_path, weights):
    image = {name: value for name, value in weights.items() if not is_learned(name)}
    assert read_checkpoint(saved(tmp_path, image)).kind == "clip"


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path, weights, is_legacy):
    path, trap = tmp_path / "evil.pth", tmp_path / "made-by-the-file"
    torch.save(
        {"state_dict": weights, "x": Evil(trap)}, path, _use_new_zipfile_serialization=not is_legacy
    )
    with pytest.raises(ValueError, match=r"evil\.pth can't be read as plain weights.*posix\.mkdir"):
        read_checkpoint(path)
    assert not trap.exists()


def test_torchscript_is_refused_with_what_to_do(tmp_path):
    class Doubling(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    path = tmp_path / "ViT-B-16.pt"
    torch.jit.save(torch.jit.trace(Doubling(), torch.zeros(2)), path)
    with pytest.raises(ValueError, match=r"TorchScript archive.*torch\.jit\.load.*Hugging Face"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "holds a list"),
        ({"epoch": 3}, r"no tensors.*\['epoch'\]"),
        (
            {"conv1.weight": torch.zeros(1), "model.conv1.weight": torch.zeros(1)},
            "two tensors 'conv1.weight'",
        ),
        ({"visual.layer1.0.conv1.weight": torch.zeros(1)}, "ResNet"),
        (
            {"vision_model.embeddings.class_embedding": torch.zeros(1)},
            r"folder with its config\.json",
        ),
        (
            {
                "fc_cls.weight": torch.zeros(2, 3),
                "cls_head.fc_cls.weight": torch.zeros(2, 3),
            },
            "two classification heads",
        ),
        (
            {"fc_cls.weight": torch.zeros(2, 3), "fc_cls.bias": torch.zeros(3)},
            "classification head",
        ),
        ({"fc_cls.weight": torch.zeros(2, 3)}, "classification head"),
    ],
)
def test_what_holds_no_weights_of_a_known_kind_is_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        read_checkpoint(saved(tmp_path, values))


@pytest.mark.parametrize("name", ["torn.pth", "torn.safetensors", "empty.pth", "text.pt"])
def test_torn_and_foreign_files_are_refused_by_name(tmp_path, weights, name):
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("no weights")
    elif name.startswith("empty"):
        path.touch()
    elif name.endswith("pth"):
        path.write_bytes(saved(tmp_path, weights, "whole").read_bytes()[:2000])
    else:
        path.write_bytes(safetensors.torch.save(weights)[:-100])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        read_checkpoint(path)
