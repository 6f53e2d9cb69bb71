"""The command from file to bundle: what it builds, what it says, and that a failure or a rerun changes nothing."""

from dataclasses import replace

import pytest
import torch

from benchmarks.fidelity.encoder import random_clip, random_encoder, random_frames
from encoders.bundle import importer as module
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.bundle.importer import ImportConfig, import_weights, open_weights
from encoders.video_encoder.config import AimConfig, FrameTemporalConfig
from encoders.video_encoder.registry import build_video_encoder
from tfcovr import run_command

AIM = AimConfig(num_frames=3, image_size=16, patch_size=8, width=64, depth=2, num_heads=1)


@pytest.fixture
def checkpoint(tmp_path):
    """As TF-CoVR writes them: prefix, head of two classes."""
    weights = random_encoder(AIM).float().state_dict()
    values = {f"model.{name}": value for name, value in weights.items()}
    values |= {"model.fc_cls.weight": torch.randn(2, 64), "model.fc_cls.bias": torch.randn(2)}
    torch.save(values, tmp_path / "aim.pth")
    return tmp_path / "aim.pth"


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "labels.txt").write_text("107b\n5253b\n")
    return tmp_path / "labels.txt"


def run(source, out, *flags):
    return run_command(
        "import-weights", ["--source", str(source), "--out", str(out), *map(str, flags)]
    )


def files_of(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_checkpoint_becomes_a_bundle_of_the_same_encoder(checkpoint, labels, tmp_path, capsys):
    assert run(checkpoint, tmp_path / "out", "--labels", labels) == 0
    bundle = load_bundle(tmp_path / "out")
    assert bundle.head is not None
    frames = random_frames(AIM)
    with torch.no_grad():
        expected = random_encoder(AIM).float().features(frames)
        torch.testing.assert_close(bundle.video.features(frames), expected)
        values = torch.load(checkpoint, weights_only=True)
        logits = expected @ values["model.fc_cls.weight"].T + values["model.fc_cls.bias"]
        torch.testing.assert_close(bundle.head(bundle.video.features(frames)), logits)
    assert bundle.card.labels == ("107b", "5253b")
    said = capsys.readouterr().out
    assert "matched  56 tensors" in said
    assert "new      nothing" in said
    assert "3 frames of 16 px, patch 8, width 64, depth 2, 1 heads" in said
    assert "head     2 classes" in said


def test_a_clip_folder_becomes_a_bundle_that_sees_frames_alone(tmp_path, capsys):
    clip = random_clip(AIM)
    clip.save_pretrained(tmp_path / "clip")
    assert run(tmp_path / "clip", tmp_path / "out", "--num-frames", 8) == 0
    bundle = load_bundle(tmp_path / "out")
    frames = random_frames(replace(AIM, num_frames=8))
    with torch.no_grad():
        found = bundle.video.features(frames)
        torch.testing.assert_close(found, bundle.video.features(frames.flip(1)))
    said = capsys.readouterr().out
    assert "\nnew      temporal_embedding, " in said
    assert "transformer.resblocks.*.MLP_Adapter.* (8)" in said
    assert "\nresized  nothing\nignored  nothing\nhead     none\n" in said


def test_more_frames_stretch_the_temporal_embedding_and_the_report_says_so(
    checkpoint, tmp_path, capsys
):
    """The last step from a bundle of this project, whose heads and labels are known."""
    run(checkpoint, tmp_path / "twelve")
    run(
        tmp_path / "twelve", tmp_path / "out", "--num-frames", 32, "--temporal-pooling", "attention"
    )
    said = capsys.readouterr().out
    assert "resized  temporal_embedding from 3 to 32 frames" in said
    assert "new      temporal_pool.key_value.bias" in said
    bundle = load_bundle(tmp_path / "out")
    assert (bundle.card.sampling.num_frames, bundle.card.video.num_frames) == (32, 32)
    assert bundle.card.encoder_id != load_bundle(tmp_path / "twelve").card.encoder_id


def test_a_rerun_writes_nothing_and_another_import_is_refused(checkpoint, labels, tmp_path, capsys):
    out = tmp_path / "out"
    run(checkpoint, out)
    before = files_of(out)
    run(checkpoint, out)
    assert "already holds this bundle" in capsys.readouterr().out
    for flags in (["--labels", labels], ["--num-frames", 5]):
        with pytest.raises(ValueError, match=r"holds another bundle.*--overwrite"):
            run(checkpoint, out, *flags)
    assert files_of(out) == before
    run(checkpoint, out, "--labels", labels, "--overwrite")
    assert load_bundle(out).card.labels == ("107b", "5253b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aim.pth", "labels.txt", "out"]


def test_the_way_to_resize_is_of_the_bundle_and_of_those_made_from_it(checkpoint, tmp_path):
    import_weights(ImportConfig(source=str(checkpoint), out=tmp_path / "plain"))
    config = ImportConfig(source=str(checkpoint), out=tmp_path / "fast", resize="swscale_area")
    assert not import_weights(config).is_unchanged
    assert import_weights(config).is_unchanged
    child = ImportConfig(source=str(tmp_path / "fast"), out=tmp_path / "child")
    import_weights(child)
    cards = {name: load_bundle(tmp_path / name).card for name in ("plain", "fast", "child")}
    resizes = [card.sampling.resize for card in cards.values()]
    assert resizes == ["pillow_bicubic", "swscale_area", "swscale_area"]
    assert cards["plain"].encoder_id != cards["fast"].encoder_id == cards["child"].encoder_id


def test_the_colours_of_a_bundle_change_its_encoder_id_only_where_they_differ(checkpoint, tmp_path):
    for name, color in (("plain", None), ("named", "bt601"), ("file", "file")):
        import_weights(ImportConfig(source=str(checkpoint), out=tmp_path / name, color=color))
    import_weights(ImportConfig(source=str(tmp_path / "file"), out=tmp_path / "child"))
    cards = {
        name: load_bundle(tmp_path / name).card for name in ("plain", "named", "file", "child")
    }
    assert [card.sampling.color for card in cards.values()] == ["bt601", "bt601", "file", "file"]
    assert cards["plain"].encoder_id == cards["named"].encoder_id
    assert cards["plain"].encoder_id != cards["file"].encoder_id == cards["child"].encoder_id


def test_a_changed_file_in_the_bundle_is_noticed_by_a_rerun(checkpoint, tmp_path):
    run(checkpoint, tmp_path / "out")
    (tmp_path / "out" / "video.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"video\.safetensors has sha256"):
        run(checkpoint, tmp_path / "out")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_bundle_is_never_replaced(checkpoint, tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="is a file" if kind == "file" else "holds no bundle"):
        run(checkpoint, out, "--overwrite")
    assert (out if kind == "file" else out / "thesis.tex").read_text() == "mine"


def test_an_empty_folder_may_take_the_bundle(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    run(checkpoint, tmp_path / "out")
    load_bundle(tmp_path / "out")


@pytest.mark.parametrize("moment", ["tensor", "saving"])
def test_a_failure_leaves_no_half_of_a_bundle(checkpoint, tmp_path, moment, monkeypatch):
    if moment == "tensor":
        values = torch.load(checkpoint, weights_only=True)
        values["model.ln_post.weight"] = torch.ones(63)
        torch.save(values, checkpoint)
    else:

        def fail(*_args, **_kwargs):
            raise OSError("no space left on device")

        monkeypatch.setattr("encoders.bundle.folder.write_card", fail)
    with pytest.raises((ValueError, OSError), match=r"ln_post\.weight has shape \(63,\)|no space"):
        run(checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["aim.pth"]


def test_sources_that_are_none_are_refused(tmp_path, monkeypatch):
    def refuse(name):
        raise AssertionError(f"{name} was looked up")

    monkeypatch.setattr(module, "read_clip_model", refuse)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"neither card\.json .* nor config\.json"):
        open_weights(tmp_path / "folder")
    for missing in ("nowhere.pth", "a/b/c", "./nowhere"):
        with pytest.raises(
            FileNotFoundError, match="neither a file, a folder nor a Hugging Face name"
        ):
            open_weights(missing)
    other = build_video_encoder(FrameTemporalConfig(num_frames=2, embedding_dim=8, depth=1))
    save_bundle(tmp_path / "other", video=other)
    with pytest.raises(ValueError, match="'frame_temporal' encoder"):
        open_weights(tmp_path / "other")


def test_an_expected_preset_is_held_to(checkpoint, tmp_path):
    config = ImportConfig(source=str(checkpoint), out=tmp_path / "out", expect="aim_vit_b16")
    with pytest.raises(ValueError, match="is not aim_vit_b16: image_size is 16, not 224"):
        import_weights(config)
    with pytest.raises(ValueError, match=r"'vit_b16'.*aim_vit_b16"):
        replace(config, expect="vit_b16")


@pytest.mark.parametrize("name", ["num_frames", "num_heads"])
def test_a_count_of_none_is_no_default(checkpoint, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        ImportConfig(source=str(checkpoint), out=tmp_path / "out", **{name: 0})
