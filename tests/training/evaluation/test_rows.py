import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from encoders.bundle.folder import load_bundle, save_bundle
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_encoder import open_text_encoder
from encoders.video_encoder.config import FrameTemporalConfig
from encoders.video_encoder.registry import build_video_encoder
from training.evaluation.rows import QueryEncoder, check_encoder, check_triplets, read_stage2_config
from training.recipes import demo_fusion_tiny, tfcovr_base

WIDTH = 16


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    text = open_text_encoder()
    config = FusionConfig(kind="combiner", video_dim=WIDTH, text_dim=text.text_dim,
                          projection_dim=8, hidden_dim=8)  # fmt: skip
    video = build_video_encoder(FrameTemporalConfig(num_frames=2, embedding_dim=WIDTH, depth=1))
    folder = tmp_path_factory.mktemp("run") / "bundle"
    save_bundle(folder, video=video, text=text, fusion=build_fusion(config))
    return load_bundle(folder)


def test_queries_equal_those_of_the_bundle_one_by_one(bundle):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = ["with 2.5 twists", "in tuck", "with 2.5 twists", "as an armstand", "in tuck", "a",
             "show with one more somersault and a half twist less", "a", "in pike"]  # fmt: skip
    encode = QueryEncoder()
    encode(bundle, vectors[:2], texts[:2])  # what is known already changes nothing
    queries = encode(bundle, vectors, texts)
    with torch.inference_mode():
        for query, vector, text in zip(queries, vectors, texts, strict=True):
            expected = bundle.encode_queries(torch.from_numpy(vector[None]), [text])
            assert query == pytest.approx(expected[0].numpy(), abs=1e-5)


def test_vectors_of_another_encoder_are_refused(bundle, tmp_path):
    path = tmp_path / "vectors.parquet"

    def write(key):
        meta = {b"tfcovr": json.dumps({"key": key}).encode()} if key else None
        pq.write_table(pa.table({"clip_id": ["a"]}).replace_schema_metadata(meta), path)

    write(f"{bundle.card.encoder_id} torch")
    check_encoder(bundle, path)
    write(None)  # vectors from elsewhere name no encoder
    check_encoder(bundle, path)
    write("0123 torch")
    with pytest.raises(ValueError, match=f"made by encoder 0123, but .* {bundle.card.encoder_id}"):
        check_encoder(bundle, path)


@pytest.mark.parametrize("recipe", [demo_fusion_tiny, tfcovr_base])
def test_the_config_of_a_finished_run_is_read_back(tmp_path, recipe):
    described = {"stage": "stage2", "config": asdict(recipe())}
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="holds no finished stage 2 run"):
        read_stage2_config(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    assert read_stage2_config(tmp_path) == recipe()
    described["config"]["colour"] = "red"
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"another version .*colour"):
        read_stage2_config(tmp_path)
    described["stage"] = "stage1"
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="stage is 'stage1'; it must be 'stage2'"):
        read_stage2_config(tmp_path)


def test_controls_on_other_triplets_are_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"triplets")
    (tmp_path / "config.json").write_text(json.dumps({"inputs": {"triplets": "0123"}}))
    with pytest.raises(ValueError, match=r"was not trained on .*t\.parquet"):
        check_triplets(tmp_path, tmp_path / "t.parquet")
