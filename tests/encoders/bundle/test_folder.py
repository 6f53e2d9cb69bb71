"""A bundle comes back as it was, and whatever was changed in it is named."""

import json
from dataclasses import replace

import pytest
import torch

from encoders.bundle.card import BundleMismatchError, read_card
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.media.sampling import SamplingConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.video_encoder.registry import build_video_encoder


@pytest.fixture
def parts(tiny_parts):
    return tiny_parts


def frames():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 3, 16, 16, 3), generator=generator, dtype=torch.uint8)


def test_everything_comes_back_to_the_bit(parts, tmp_path):
    card = save_bundle(tmp_path / "bundle", **parts)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.card == card == read_card(tmp_path / "bundle")
    assert bundle.card.labels == ("107b", "109c")
    assert bundle.card.training == {"seed": 0, "recipe": "made-up"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    edits = ["in tuck", "two two in a 2.5"]
    with torch.no_grad():
        clip_vectors = parts["video"](frames())
        assert torch.equal(bundle.video(frames()), clip_vectors)
        assert bundle.head is not None
        features = parts["video"].features(frames())
        assert torch.equal(bundle.head(features), parts["head"](features))
        expected = parts["fusion"](clip_vectors, parts["text"].encode(edits))
        assert torch.equal(bundle.encode_queries(clip_vectors, edits), expected)


def test_a_bundle_of_stage_one_has_no_queries(parts, tmp_path):
    save_bundle(tmp_path / "b", video=parts["video"], head=parts["head"], labels=parts["labels"])
    bundle = load_bundle(tmp_path / "b")
    with pytest.raises(ValueError, match="stage 2"):
        bundle.encode_queries(torch.zeros(1, 12), ["in tuck"])


def test_retraining_fusion_or_text_keeps_the_encoder_id(parts, make_tiny_text, tmp_path):
    first = save_bundle(tmp_path / "a", **parts)
    torch.manual_seed(9)
    changed = parts | {
        "text": make_tiny_text(),
        "fusion": build_fusion(replace(parts["fusion"].config, hidden_dim=4)),
    }
    second = save_bundle(tmp_path / "b", **changed)
    third = save_bundle(tmp_path / "c", video=parts["video"])
    assert first.encoder_id == second.encoder_id == third.encoder_id
    assert len({first.bundle_id, second.bundle_id, third.bundle_id}) == 3
    assert save_bundle(tmp_path / "d", **parts) == first


def test_anything_that_changes_a_gallery_vector_changes_the_encoder_id(parts, tmp_path):
    ids = {save_bundle(tmp_path / "a", video=parts["video"]).encoder_id}
    weights = parts["video"].state_dict()
    for i, change in enumerate(({"pixel_mean": (0.5, 0.5, 0.5)}, {"adapter_scale": 0.4})):
        other = build_video_encoder(replace(parts["video"].config, **change))
        other.load_state_dict(weights)
        ids.add(save_bundle(tmp_path / f"b{i}", video=other).encoder_id)
    with torch.no_grad():
        parts["video"].temporal_embedding[0, 1, 2] += 1e-6
    ids.add(save_bundle(tmp_path / "c", video=parts["video"]).encoder_id)
    assert len(ids) == 4


def test_an_older_bundle_is_replaced_as_a_whole(parts, tmp_path):
    save_bundle(tmp_path / "b", **parts)
    save_bundle(tmp_path / "b", video=parts["video"])
    assert load_bundle(tmp_path / "b").text is None
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"card.json", "video.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bundle_that_cannot_be_written_leaves_the_older_one(parts, tmp_path):
    card = save_bundle(tmp_path / "b", **parts)
    with pytest.raises(TypeError):
        save_bundle(tmp_path / "b", **(parts | {"training_info": {"model": object()}}))
    assert load_bundle(tmp_path / "b").card == card
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "name",
    ["video.safetensors", "text.safetensors", "fusion.safetensors", "tokenizer.json"],
)
def test_changed_and_missing_files_are_named(parts, tmp_path, name):
    save_bundle(tmp_path / "b", **parts)
    flip_last_byte(tmp_path / "b" / name)
    with pytest.raises(BundleMismatchError, match=f"{name} has sha256"):
        load_bundle(tmp_path / "b")
    (tmp_path / "b" / name).unlink()
    with pytest.raises(BundleMismatchError, match=f"{name} is missing"):
        load_bundle(tmp_path / "b")


def forge(folder, change):
    """Change the card and make its bundle_id right again, as code with a fault would."""
    from encoders.bundle.card import card_from_dict, with_bundle_id, write_card

    values = json.loads((folder / "card.json").read_text())
    change(values)
    write_card(folder, with_bundle_id(card_from_dict(values)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["video"].update(depth=2), "video.safetensors does not fit"),
        (lambda card: card["fusion"].update(hidden_dim=11), "fusion.safetensors does not fit"),
        (lambda card: card.update(labels=["a", "b", "c"]), "head.safetensors does not fit"),
        (lambda card: card["video"].update(adapter_scale=0.1), "encoder_id"),
        (lambda card: card["sampling"].update(num_frames=4), "encoder_id"),
        (lambda card: card["preprocessing"].update(mean=[0, 0, 0]), "encoder_id"),
        (lambda card: card.update(embedding_dim=13), "embedding_dim"),
    ],
)
def test_a_card_that_describes_another_encoder_is_refused(parts, tmp_path, change, message):
    save_bundle(tmp_path / "b", **parts)
    forge(tmp_path / "b", change)
    with pytest.raises(BundleMismatchError, match=message):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(version=2), "version 2"),
        (lambda card: card.update(embedding_dim=13), "changed by hand"),
        (lambda card: card.update(colour="blue"), "'colour'"),
        (lambda card: card.pop("labels"), "'labels'"),
        (lambda card: card["video"].update(kind="gru"), "card.video has the kind 'gru'"),
        (lambda card: card["sampling"].update(stride=2), "stride"),
        (lambda card: card["files"].update({"../other": "00"}), "own folder"),
    ],
)
def test_a_card_that_is_not_understood_is_refused(parts, tmp_path, change, message):
    save_bundle(tmp_path / "b", **parts)
    path = tmp_path / "b" / "card.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(BundleMismatchError, match=message):
        load_bundle(tmp_path / "b")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleMismatchError, match=r"not a bundle: card\.json is missing"):
        load_bundle(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(BundleMismatchError, match="not JSON"):
        load_bundle(tmp_path)


def test_parts_that_do_not_belong_together_are_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="belong together"):
        save_bundle(tmp_path / "b", video=parts["video"], text=parts["text"])
    with pytest.raises(ValueError, match="labels"):
        save_bundle(tmp_path / "b", video=parts["video"], head=parts["head"])
    with pytest.raises(ValueError, match="Linear"):
        save_bundle(tmp_path / "b", **(parts | {"labels": ["only one"]}))
    wide = build_fusion(replace(parts["fusion"].config, video_dim=13))
    with pytest.raises(ValueError, match="video_dim"):
        save_bundle(tmp_path / "b", **(parts | {"fusion": wide}))
    sampling = SamplingConfig(num_frames=5, frame_size=16)
    with pytest.raises(ValueError, match="5 frames"):
        save_bundle(tmp_path / "b", video=parts["video"], sampling=sampling)
    assert list(tmp_path.iterdir()) == []
