"""A checkpoint as TF-CoVR's train.py saves it, of a tiny Q-Former and Combiner, against the model that it was taken from."""

import re
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from encoders.bundle.folder import load_bundle, save_bundle
from encoders.bundle.import_config import ImportConfig
from encoders.bundle.importer import import_weights
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_encoder import open_text_encoder
from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import AimConfig
from tests.support.qformer import TEXTS, save_qformer

AIM = AimConfig(num_frames=3, image_size=16, patch_size=8, width=8, depth=1, num_heads=2)
RELEASED = {
    "text_in.": "text_proj.",
    "text_projection.": "combiner.text_projection_layer.",
    "video_projection.": "combiner.image_projection_layer.",
    "combine.": "combiner.combiner_layer.",
    "out.": "combiner.output_layer.",
    "gate_hidden.": "combiner.dynamic_scalar.0.",
    "gate_out.": "combiner.dynamic_scalar.3.",
}


def released_text_name(name):
    """Of our encoder's tensor; Qformer.py calls the inner attention `self`."""
    if name.startswith("qformer.layernorm"):
        return name.replace("qformer.layernorm", "Qformer.bert.embeddings.LayerNorm")
    name = name.removeprefix("qformer.")
    return "Qformer.bert." + name.replace(".attention.attention.", ".attention.self.")


@pytest.fixture
def scheduler(monkeypatch):
    """An object of a class that exists while the file is written only, as the release's own scheduler."""
    module = ModuleType("src.tools.scheduler")

    class CosineSchedule:
        def __init__(self):
            self.init_lr, self.max_epochs = 1e-5, 5

    CosineSchedule.__module__, CosineSchedule.__qualname__ = module.__name__, "CosineSchedule"
    module.CosineSchedule = CosineSchedule
    for name in ("src", "src.tools"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return CosineSchedule()


@pytest.fixture
def stage2(tmp_path, scheduler):
    """Folder with `blip2`, the bundle `stage1` and `stage2.ckpt`, and the text encoder and fusion in the checkpoint."""
    save_qformer(tmp_path / "blip2")
    text = open_text_encoder(tmp_path / "blip2", released_words=True)
    torch.manual_seed(1)
    for parameter in text.parameters():
        nn.init.normal_(parameter, std=0.3)
    config = FusionConfig(
        kind="combiner", video_dim=8, text_dim=32, projection_dim=6, hidden_dim=10, keeps_length=True
    )  # fmt: skip
    fusion = build_fusion(config).eval()
    weights = {released_text_name(n): v for n, v in text.model.state_dict().items()}
    for ours, theirs in RELEASED.items():
        for name, value in fusion.state_dict().items():
            if name.startswith(ours):
                weights[theirs + name.removeprefix(ours)] = value
    weights |= {
        "query_tokens": torch.zeros(1, 32, 32),
        "vision_proj.weight": torch.zeros(8, 32),
        "Qformer.cls.predictions.bias": torch.zeros(3),
        "Qformer.bert.encoder.layer.0.intermediate_query.dense.weight": torch.zeros(2, 2),
        "Qformer.bert.encoder.layer.0.crossattention.self.key.weight": torch.zeros(2, 2),
        "Qformer.bert.embeddings.position_ids": torch.arange(40)[None],
    }
    state = {"epoch": 3, "model": weights, "optimizer": {"state": {}}, "scheduler": scheduler}
    torch.save(state, tmp_path / "stage2.ckpt")
    save_bundle(tmp_path / "stage1", video=AimEncoder(AIM).eval())
    return tmp_path, text, fusion


def config_of(folder, **changes):
    return ImportConfig(
        **{
            "source": str(folder / "stage2.ckpt"),
            "out": folder / "out",
            "video": folder / "stage1",
            "text": str(folder / "blip2"),
        }
        | changes
    )


def test_a_stage_2_checkpoint_becomes_a_bundle_that_answers_as_its_model(stage2):
    folder, text, fusion = stage2
    result = import_weights(config_of(folder))
    assert not result.is_unchanged
    assert import_weights(config_of(folder)).is_unchanged
    bundle = load_bundle(folder / "out")
    assert bundle.card.encoder_id == load_bundle(folder / "stage1").card.encoder_id
    assert bundle.card.fusion.keeps_length
    raw = torch.randn(3, 8) * 9
    with torch.no_grad():
        torch.testing.assert_close(
            bundle.encode_queries(raw, TEXTS), fusion(raw, text.encode(TEXTS)), atol=1e-6, rtol=1e-5
        )


def test_what_is_missing_is_named(stage2):
    folder, _text, _fusion = stage2
    with pytest.raises(ValueError, match=r"name the bundle of the encoder .* with --video"):
        import_weights(config_of(folder, video=None))
    with pytest.raises(ValueError, match="adapter_scale is given"):
        import_weights(config_of(folder, adapter_scale=1.0))
    state = torch.load(folder / "stage2.ckpt", weights_only=False)["model"]
    for lost, named in (
        ("combiner.output_layer.bias", "out.bias"),
        ("Qformer.bert.encoder.layer.1.output.dense.bias", "layer.1.output.dense.bias"),
    ):
        torch.save({n: v for n, v in state.items() if n != lost}, folder / "torn.ckpt")
        with pytest.raises(ValueError, match=re.escape(named)):
            import_weights(config_of(folder, source=str(folder / "torn.ckpt")))
    assert not (folder / "out").exists()


def test_a_stage_1_checkpoint_with_a_scheduler_is_read_and_its_adapter_scale_given(
    tmp_path, scheduler
):
    encoder = AimEncoder(AIM).eval()
    weights = {f"model.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"epoch": 1, "model": weights, "scheduler": scheduler}, tmp_path / "stage1.ckpt")
    config = ImportConfig(
        source=str(tmp_path / "stage1.ckpt"), out=tmp_path / "out", num_heads=2, adapter_scale=1.0
    )
    result = import_weights(config)
    assert result.card.video.adapter_scale == 1.0
    with pytest.raises(ValueError, match=r"adapter_scale is 0\.25; .* declares 1\.0"):
        import_weights(
            ImportConfig(source=str(tmp_path / "out"), out=tmp_path / "b", adapter_scale=0.25)
        )
    with pytest.raises(ValueError, match="adapter_scale is 0"):
        ImportConfig(source="x", out=tmp_path / "c", adapter_scale=0.0)
