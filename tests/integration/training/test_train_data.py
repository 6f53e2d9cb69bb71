"""`--data DIR` from files to an evaluation table, learnable only from clip and text together."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2QFormerConfig,
    Blip2TextModelWithProjection,
    Blip2VisionConfig,
    OPTConfig,
)

from benchmarks.studies.synthetic_data import LearnableSize, make_learnable_data, write_released
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.metrics import mean_average_precision_at_k
from encoders.query_encoder.text_encoder import open_text_encoder
from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import AimConfig
from training.annotations.triplets.table import read_triplets
from training.evaluation.rows import read_stage2_config
from training.run import main
from training.stage2.train import load_composer

SIZE = LearnableSize(num_clips=600, num_triplets=400, num_actions=6, vector_dim=48)
FAST = [
    *("--config.text", "packaged:all-MiniLM-L6-v2", "--config.no-train-text"),
    *("--config.loop.num-epochs", "12", "--config.loop.batch-size", "64"),
    *("--config.loop.learning-rate", "3e-3", "--config.dropout", "0.1"),
    *("--config.projection-dim", "64", "--config.hidden-dim", "128", "--no-ray", "--quiet"),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_released(folder, make_learnable_data(SIZE))
    return folder


def test_released_data_to_an_evaluation_table(data_dir, tmp_path, capsys) -> None:
    command = [
        "--recipe",
        "tfcovr_base",
        "--data",
        str(data_dir),
        "--run-dir",
        str(tmp_path),
        *FAST,
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "clip + edit text" in shown
    assert "27.22" in shown
    found = {t.query_id: t for t in read_triplets(tmp_path / "data" / "triplets.parquet")}
    assert found["test-test_000009"].target_clip_ids == next(
        t.target_clip_ids for t in make_learnable_data(SIZE).triplets if t.query_id == "test_000009"
    )
    metrics = json.loads((tmp_path / "evaluate" / "metrics.json").read_text())
    rows = {row["name"]: row for row in metrics["rows"]}
    # Chance is 1 label in 48; the action alone leaves 8 counts.
    assert rows["composed"]["map@50"] > 0.5 > 0.3 > rows["raw"]["map@50"]
    assert (tmp_path / "composer.safetensors").exists()
    assert json.loads((tmp_path / "result.json").read_text())["bundle"] is None

    (tmp_path / "evaluate" / "metrics.json").write_text(json.dumps({**metrics, "mark": 1}))
    assert main(command) == 0  # done: nothing is computed again
    assert "mark" in json.loads((tmp_path / "evaluate" / "metrics.json").read_text())

    check_map_by_hand(tmp_path, rows["composed"]["map@50"])


def check_map_by_hand(run_dir, expected) -> None:
    """Query by query through the trained module, the gallery as a plain list."""
    data = make_learnable_data(SIZE)
    unit_ND = data.vectors_ND / np.linalg.norm(data.vectors_ND, axis=1, keepdims=True)
    vector = dict(zip(data.clip_ids, unit_ND, strict=True))
    config = read_stage2_config(run_dir)
    module, text, _ = load_composer(config, run_dir, run_dir / "data" / "vectors.parquet")
    asked = [t for t in data.triplets if t.split == "test"]
    gallery = sorted({c for t in asked for c in (t.query_clip_id, *t.target_clip_ids)})
    rankings, targets = [], []
    for triplet in asked:
        with torch.no_grad():
            clip = torch.from_numpy(vector[triplet.query_clip_id])[None]
            query = module.fusion(clip, text.encode([triplet.edit_text]))[0].numpy()
        others = [c for c in gallery if c != triplet.query_clip_id]
        rankings.append(sorted(others, key=lambda c: -float(query @ vector[c])))
        targets.append(set(triplet.target_clip_ids))
    found = mean_average_precision_at_k(rankings, targets, k=50)
    assert found == pytest.approx(expected, abs=1e-4)


def test_clips_without_an_embedding_stop_the_run_or_are_listed(data_dir, tmp_path) -> None:
    data = make_learnable_data(SIZE)
    lost = sorted({t.query_clip_id for t in data.triplets})[:3]
    kept = [row for row, clip in enumerate(data.clip_ids) if clip not in lost]
    broken = replace(
        data,
        clip_ids=tuple(data.clip_ids[row] for row in kept),
        vectors_ND=data.vectors_ND[kept],
    )
    write_released(tmp_path / "data", broken, embeddings="pth")
    command = ["--recipe", "tfcovr_base", "--data", str(tmp_path / "data")]
    command += ["--run-dir", str(tmp_path / "run"), *FAST, "--config.loop.num-epochs", "1"]
    with pytest.raises(ValueError, match=r"3 of .* have no embedding, first: .*skip-missing"):
        main(command)
    assert main([*command, "--skip-missing"]) == 0
    dead = pq.ParquetFile(tmp_path / "run" / "data" / "vectors.dead.parquet").read()
    assert dead["clip_id"].to_pylist() == lost


def save_tiny_blip2(folder) -> None:
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "turns", "show", "one", "two", "half"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    qformer = Blip2QFormerConfig(
        **(small | {"hidden_size": 24}), vocab_size=len(words), intermediate_size=24,
        encoder_hidden_size=16, use_qformer_text_input=True,
    )  # fmt: skip
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**small, intermediate_size=16),
        qformer_config=qformer,
        text_config=OPTConfig(**small, ffn_dim=16, vocab_size=10),
        image_text_hidden_size=8,
    )
    torch.manual_seed(0)
    Blip2TextModelWithProjection(config).save_pretrained(folder)


def test_the_q_former_trains_and_goes_into_a_bundle(tmp_path) -> None:
    """With --init the run makes a bundle whose queries are those of the trained module."""
    data = make_learnable_data(replace(SIZE, vector_dim=32, num_triplets=120))
    write_released(tmp_path / "data", data)
    save_tiny_blip2(tmp_path / "blip2")
    torch.manual_seed(0)
    shape = AimConfig(num_frames=4, image_size=32, patch_size=16, width=32, depth=1, num_heads=2)
    save_bundle(tmp_path / "init", video=AimEncoder(shape))
    run_dir = tmp_path / "run"
    command = [
        "--recipe",
        "tfcovr_base",
        "--data",
        str(tmp_path / "data"),
        "--run-dir",
        str(run_dir),
    ]
    command += ["--init", str(tmp_path / "init"), "--config.text", str(tmp_path / "blip2")]
    command += [
        "--config.loop.num-epochs",
        "2",
        "--config.loop.batch-size",
        "32",
        "--no-ray",
        "--quiet",
    ]
    assert main([*command, "--config.projection-dim", "32", "--config.hidden-dim", "32"]) == 0
    bundle = load_bundle(run_dir / "bundle")
    config = read_stage2_config(run_dir)
    module, text, _ = load_composer(config, run_dir, run_dir / "data" / "vectors.parquet")
    clip = torch.nn.functional.normalize(torch.from_numpy(data.vectors_ND[:2]), dim=-1)
    texts = ["show with 2.5 turns", "two turns"]
    with torch.no_grad():
        expected = module.fusion(clip, text.encode(texts))
        torch.testing.assert_close(bundle.encode_queries(clip, texts), expected)
    fresh = open_text_encoder(tmp_path / "blip2")
    moved = [
        name
        for name, value in bundle.text.state_dict().items()
        if not torch.equal(value, fresh.state_dict()[name])
    ]
    assert len(moved) > 0.9 * len(fresh.state_dict())
