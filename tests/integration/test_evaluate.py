"""From triplets to metrics.json, all rows trained for real on made-up clip vectors that hold their attributes."""

import json
import shutil
from dataclasses import replace

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from encoders.bundle.folder import save_bundle
from encoders.clips import Clip, write_clips
from encoders.video_encoder.config import FrameTemporalConfig
from encoders.video_encoder.registry import build_video_encoder
from tfcovr import run_command
from training.annotations.triplets.build import TripletConfig, build_triplets
from training.annotations.triplets.table import write_triplets
from training.configs import LaunchSettings
from training.recipes import demo_fusion_tiny
from training.stage2.train import Stage2Inputs, train_stage2

WIDTH = 32
VALUES = {
    "somersaults": ("1.5", "2.5", "3.5"),
    "twists": ("0", "1", "2"),
    "position": ("pike", "tuck"),
}


def make_archive(folder):
    """18 labels; a clip's vector is the sum of its attributes' directions and noise."""
    rng = np.random.default_rng(0)
    directions = {(n, v): rng.normal(size=WIDTH) for n, values in VALUES.items() for v in values}
    clips, vectors = [], []
    for somersaults in VALUES["somersaults"]:
        for twists in VALUES["twists"]:
            for position in VALUES["position"]:
                attributes = {"somersaults": somersaults, "twists": twists, "position": position}
                for number in range(14):
                    name = f"s{somersaults}-t{twists}-{position}"
                    clips.append(
                        Clip(clip_id=f"{name}-{number}", video_uri=f"/{name}-{number}.mp4",
                             label=name, attributes=attributes,
                             split="train" if number < 8 else "val" if number < 10 else "test")
                    )  # fmt: skip
                    vector = sum(directions[item] for item in attributes.items())
                    vector = vector + rng.normal(size=WIDTH) * 0.5
                    vectors.append(vector / np.linalg.norm(vector))
    write_clips(folder / "clips.parquet", clips)
    table = {
        "clip_id": [clip.clip_id for clip in clips],
        "embedding": [v.tolist() for v in vectors],
    }
    schema = pa.schema([("clip_id", pa.string()), ("embedding", pa.list_(pa.float32()))])
    pq.write_table(pa.table(table, schema=schema), folder / "vectors.parquet")
    return clips


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    clips = make_archive(folder)
    triplets = build_triplets(clips, TripletConfig(held_out_share=0.1, texts_per_pair=2))
    write_triplets(folder / "triplets.parquet", triplets)
    torch.manual_seed(0)
    video = build_video_encoder(FrameTemporalConfig(num_frames=2, embedding_dim=WIDTH, depth=1))
    save_bundle(folder / "stage1" / "bundle", video=video)
    recipe = demo_fusion_tiny()
    loop = replace(recipe.loop, num_epochs=8, batch_size=64, learning_rate=3e-3, num_threads=1)
    inputs = Stage2Inputs(
        triplets_path=folder / "triplets.parquet",
        vectors_path=folder / "vectors.parquet",
        init_bundle=folder / "stage1" / "bundle",
    )
    quiet = LaunchSettings(show_progress=False)
    train_stage2(replace(recipe, loop=loop), inputs, folder / "stage2", quiet)
    return folder


def arguments(folder, run_dir):
    return [
        *("--stage2", str(folder / "stage2"), "--triplets", str(folder / "triplets.parquet")),
        *("--vectors", str(folder / "vectors.parquet"), "--clips", str(folder / "clips.parquet")),
        *("--run-dir", str(run_dir), "--num-resamples", "300"),
    ]


def test_all_rows_are_trained_measured_and_kept(archive, capsys):
    run_dir = archive / "evaluate"
    assert run_command("evaluate", [*arguments(archive, run_dir), "--rankings"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "composed has" in shown
    metrics = json.loads((run_dir / "metrics.json").read_text())
    rows = {row["name"]: row for row in metrics["rows"]}
    assert list(rows) == ["composed", "video_only", "text_only", "mean", "raw"]
    assert metrics["gallery_size"] == 18 * 4
    # The vectors hold what is needed, so composition must win, and no control can know the answer.
    assert rows["composed"]["map@50"] > 0.8
    assert metrics["composed_over_best_other"]["value"] > 1.1
    assert metrics["intervals_are_disjoint"]
    assert rows["video_only"]["map@50"] < 0.3
    assert set(metrics["by_pairs"]) == {"seen", "unseen"}
    unseen = metrics["by_pairs"]["unseen"]
    assert 0 < unseen["num_label_pairs"] < metrics["by_pairs"]["seen"]["num_label_pairs"]
    assert set(metrics["by_change"]) >= {"somersaults", "twists", "position"}

    made = {name: metrics["sources"][name] for name in ("video_only", "text_only", "mean")}
    assert [(m["fusion"], m["inputs"]) for m in made.values()] == [
        ("combiner", "video"), ("combiner", "text"), ("mean", "both"),
    ]  # fmt: skip
    own = json.loads((archive / "stage2" / "config.json").read_text())["config"]
    for name in made:
        control = json.loads((run_dir / "rows" / name / "config.json").read_text())["config"]
        assert {key for key in own if own[key] != control[key]} <= {"inputs", "fusion"}

    rankings = pq.read_table(run_dir / "rankings.parquet").to_pylist()
    assert len(rankings) == 5 * metrics["num_queries"]
    first_right = [r["is_right"][0] for r in rankings if r["row"] == "composed"]
    assert np.mean(first_right) == pytest.approx(rows["composed"]["recall@1"])
    assert all(r["query_clip_id"] not in r["ranked_clip_ids"] for r in rankings)

    # The same command again trains nothing and says the same.
    results = {path: path.stat().st_mtime_ns for path in run_dir.glob("rows/*/result.json")}
    assert len(results) == 3
    run_command("evaluate", arguments(archive, run_dir))
    assert {path: path.stat().st_mtime_ns for path in results} == results
    assert json.loads((run_dir / "metrics.json").read_text()) == metrics


def write_noise_video(path, seed):
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            frame = rng.integers(0, 255, size=(64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_vectors_are_computed_when_none_are_given_and_a_bad_file_costs_no_neighbour(
    archive, tmp_path
):
    clips = []
    for number, twists in enumerate(["0", "1"] * 6):
        path = tmp_path / f"{number}.mp4"
        write_noise_video(path, number)
        clips.append(
            Clip(clip_id=path.stem, video_uri=str(path), label=f"t{twists}", split="test",
                 attributes={"twists": twists})
        )  # fmt: skip
    broken = tmp_path / "3.mp4"
    broken.write_bytes(broken.read_bytes()[:200])
    write_clips(tmp_path / "clips.parquet", clips)
    write_triplets(tmp_path / "triplets.parquet", build_triplets(clips, TripletConfig()))
    options = [
        *("--stage2", str(archive / "stage2"), "--run-dir", str(tmp_path / "out")),
        *("--triplets", str(tmp_path / "triplets.parquet")),
        *("--clips", str(tmp_path / "clips.parquet"), "--num-resamples", "20"),
    ]
    run_command("evaluate", [*options, "--rows", "composed", "raw"])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["gallery_size"] == 11
    assert (metrics["num_dead_clips"], metrics["num_queries_left_out"]) == (1, 1)
    assert metrics["num_queries"] == 11
    with pytest.raises(ValueError, match="was not trained on"):
        run_command("evaluate", [*options, "--rows", "text_only"])


def test_a_run_that_is_not_finished_is_refused(archive, tmp_path):
    unfinished = tmp_path / "stage2"
    shutil.copytree(archive / "stage2", unfinished)
    (unfinished / "result.json").unlink()
    options = arguments(archive, tmp_path / "out")
    options[1] = str(unfinished)
    with pytest.raises(ValueError, match="holds no finished stage 2 run"):
        run_command("evaluate", [*options, "--rows", "text_only"])
