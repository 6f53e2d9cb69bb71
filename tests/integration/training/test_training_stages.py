"""Both stages from real files: frames through either decoder, vectors through the shared stages, bundles that load."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.backends.registry import open_backend
from encoders.bundle.folder import load_bundle
from encoders.clips import read_clips, write_clips
from encoders.decoding.decode import decode_clips
from encoders.media.frame_index import Span
from encoders.video_encoder.config import AimConfig
from training.configs import AugmentConfig, LaunchSettings, LoopConfig, Stage1Config
from training.recipes import RECIPES
from training.stage1 import frame_vectors
from training.stage1.task import Stage1Factory
from training.stage1.train import Stage1Inputs, train_stage1
from training.stage2.train import Stage2Inputs, train_stage2
from training.trainer.session import connected
from training.vectors.compute import VectorsConfig, compute_vectors
from training.vectors.tables import read_unit_vectors

QUIET = LaunchSettings(show_progress=False)
TINY_AIM = AimConfig(num_frames=4, image_size=32, patch_size=16, width=32, depth=1, num_heads=2)
LOOP = LoopConfig(num_epochs=2, batch_size=4, learning_rate=1e-3, weight_decay=0.05, num_threads=1)


def learning_config() -> Stage1Config:
    """The tiny recipe, long enough to learn the order of two colours."""
    recipe = RECIPES["demo_actions_tiny"]()
    loop = replace(recipe.loop, num_epochs=40, batch_size=6, eval_every=40, num_threads=1)
    return replace(recipe, attributes=("first", "last"), loop=loop)


@pytest.fixture(scope="module")
def stage1_dir(archive, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("stage1") / "run"
    inputs = Stage1Inputs(clips_path=archive / "clips.parquet")
    train_stage1(learning_config(), inputs, run_dir, QUIET)
    return run_dir


def test_stage_1_learns_and_its_bundle_classifies(stage1_dir, archive) -> None:
    result = json.loads((stage1_dir / "result.json").read_text())
    assert result["val_top1"] >= 0.8
    bundle = load_bundle(stage1_dir / "bundle")
    assert bundle.head is not None
    clips = [clip for clip in read_clips(archive / "clips.parquet") if clip.split == "val"]
    right = 0
    for clip in clips:
        span = [Span(start_s=clip.start_s, end_s=clip.end_s)]
        frames = decode_clips(clip.video_uri, span, bundle.card.sampling).frames_NTHWC
        with torch.inference_mode():
            logits = bundle.head(bundle.video.features(torch.from_numpy(frames)))
        right += (bundle.card.labels or ())[int(logits.argmax())] == clip.label
    assert right / len(clips) >= 0.8
    assert (stage1_dir / "curves.png").stat().st_size > 1000


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "the bundle is gone": lambda run: _remove(run / "bundle"),
    "result.json is cut": lambda run: (run / "result.json").write_text('{"key": "a'),
    "result.json is a list": lambda run: (run / "result.json").write_text("[]"),
    "result.json has its key alone": lambda run: (run / "result.json").write_text(
        json.dumps({"key": json.loads((run / "result.json").read_text())["key"]})
    ),
    **{
        f"metrics.jsonl is {content!r}": lambda run, content=content: (
            _remove(run / "result.json"),
            (run / "metrics.jsonl").write_bytes(content),
        )
        for content in (b"[]\n", b"{}\n", b"\xff\n", b"")
    },
    **{
        f"decode.json is {content!r}": lambda run, content=content: (
            _remove(run / "result.json"),
            [path.write_text(content) for path in run.glob("workers/*/decode.json")],
        )
        for content in ("{", "{}")
    },
    **{
        f"frame vectors are {content!r}": lambda run, content=content: (
            _remove(run / "result.json"),
            [path.write_bytes(content) for path in run.glob("frame_vectors/chunk-*.safetensors")],
        )
        for content in (b"", bytes(64))
    },
    "the image part is cut": lambda run: (
        _remove(run / "result.json"),
        (run / "image_part.safetensors").write_bytes(b"\x08"),
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_a_finished_run_lost_is_made_again(stage1_dir, archive, tmp_path, kind) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(stage1_dir, run_dir)
    DAMAGES[kind](run_dir)
    inputs = Stage1Inputs(clips_path=archive / "clips.parquet")
    result = train_stage1(learning_config(), inputs, run_dir, QUIET)
    before = json.loads((stage1_dir / "result.json").read_text())
    assert result["encoder_id"] == before["encoder_id"]
    assert load_bundle(run_dir / "bundle").card.encoder_id == before["encoder_id"]


def test_a_damaged_config_is_named(stage1_dir, archive, tmp_path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    inputs = Stage1Inputs(clips_path=archive / "clips.parquet")
    for content in (b"", b"{", b"[]", b"\xff", bytes(9)):
        (run_dir / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"config\.json is damaged.*choose another --run-dir"):
            train_stage1(learning_config(), inputs, run_dir, QUIET)


def test_a_finished_run_is_left_alone(stage1_dir, archive) -> None:
    before = {path: path.stat().st_mtime_ns for path in stage1_dir.rglob("*") if path.is_file()}
    inputs = Stage1Inputs(clips_path=archive / "clips.parquet")
    result = json.loads((stage1_dir / "result.json").read_text())
    assert train_stage1(learning_config(), inputs, stage1_dir, QUIET) == result
    with pytest.raises(ValueError, match=r"config\.loop\.num_epochs: 40 there, 3 now"):
        train_stage1(
            replace(learning_config(), loop=replace(learning_config().loop, num_epochs=3)),
            inputs,
            stage1_dir,
            QUIET,
        )
    assert before == {
        path: path.stat().st_mtime_ns for path in stage1_dir.rglob("*") if path.is_file()
    }


def test_actors_keep_the_very_frame_vectors_of_one_process(archive, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(frame_vectors, "_CHUNK", 4)  # fewer clips than one chunk need no actors
    clips = read_clips(archive / "clips.parquet")[:6]
    factory = Stage1Factory(
        config=RECIPES["demo_actions_tiny"](),
        clips_path=str(archive / "clips.parquet"),
        run_dir=str(tmp_path),
        frame_vectors_dir=str(tmp_path),
    )
    source = factory.vector_source("cpu")
    kept = []
    for num_workers in (0, 1):
        launch = LaunchSettings(num_workers=num_workers, show_progress=False)
        folder = tmp_path / f"by_{num_workers}"
        with connected(launch, tmp_path / "run"):
            frame_vectors.keep_frame_vectors(clips, source, folder, launch)
        kept.append(frame_vectors.read_frame_vectors(clips, source, folder))
    assert kept[0].clip_ids == kept[1].clip_ids == tuple(sorted(clip.clip_id for clip in clips))
    assert torch.equal(kept[0].plain_NMF, kept[1].plain_NMF)
    assert torch.equal(kept[0].flipped_NMF, kept[1].flipped_NMF)


def test_vectors_are_the_backends_and_computed_once(stage1_dir, archive, tmp_path) -> None:
    config = VectorsConfig(
        clips=archive / "clips.parquet",
        bundle=stage1_dir / "bundle",
        out=tmp_path / "vectors.parquet",
        launch=QUIET,
    )
    clips = read_clips(config.clips)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    clips.append(replace(clips[0], clip_id="broken", video_uri=str(broken)))
    summary = compute_vectors(config, clips)
    assert (summary.num_vectors, summary.num_dead, summary.num_computed) == (24, 1, 25)
    assert compute_vectors(config, clips).num_computed == 0
    backend = open_backend(stage1_dir / "bundle", "torch")
    clip = clips[5]
    span = [Span(start_s=clip.start_s, end_s=clip.end_s)]
    frames = decode_clips(clip.video_uri, span, backend.card.sampling).frames_NTHWC
    found = read_unit_vectors(config.out)[clip.clip_id]
    assert float(found @ backend.embed_clips(frames)[0]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"inputs": "text", "fusion": "mean"}])
def test_stage_2_keeps_the_encoder_and_answers_queries(
    changes, stage1_dir, archive, tmp_path
) -> None:
    inputs = Stage2Inputs(
        triplets_path=archive / "triplets.parquet",
        init_bundle=stage1_dir / "bundle",
        clips_path=archive / "clips.parquet",
    )
    config = replace(RECIPES["demo_fusion_tiny"](), **changes)
    result = train_stage2(config, inputs, tmp_path / "run", QUIET)
    bundle = load_bundle(tmp_path / "run" / "bundle")
    stage1 = load_bundle(stage1_dir / "bundle")
    assert bundle.card.encoder_id == stage1.card.encoder_id == result["encoder_id"]
    vectors = read_unit_vectors(tmp_path / "run" / "vectors.parquet")
    clip_ND = torch.from_numpy(np.stack(list(vectors.values())[:2]))
    with torch.inference_mode():
        query_ND = bundle.encode_queries(clip_ND, ["the one that is red then green"] * 2)
    assert torch.allclose(query_ND.norm(dim=1), torch.ones(2), atol=1e-5)
    if changes.get("inputs") == "text":
        assert torch.allclose(query_ND[0], query_ND[1], atol=1e-6)


def aim_run(
    archive: Path, run_dir: Path, backend: str, batch_size: int = 4
) -> dict[str, list[int]]:
    """Trains from frames; returns which frames of which clip every epoch read."""
    config = Stage1Config(
        encoder=TINY_AIM,
        loop=replace(LOOP, batch_size=batch_size),
        augment=AugmentConfig(min_crop_scale=0.5, decode_size=40),
        decode_backend=backend,
        record_frames=True,
    )
    train_stage1(config, Stage1Inputs(clips_path=archive / "clips.parquet"), run_dir, QUIET)
    return {
        f"{path.stem}/{clip_id}": frames
        for path in sorted(run_dir.glob("workers/*/frames_read/*.json"))
        for clip_id, frames in json.loads(path.read_text()).items()
    }


def test_dali_trains_on_the_very_frames_of_pyav(vp9_archive, tmp_path) -> None:
    pytest.importorskip("nvidia.dali")
    by_dali = aim_run(vp9_archive, tmp_path / "dali", "dali", 3)
    by_pyav = aim_run(vp9_archive, tmp_path / "pyav", "pyav", 3)
    assert by_dali == by_pyav
    for name in ("dali", "pyav"):
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["decode_backends"] == [name]
    assert len(by_dali) == 2 * 6  # epochs x train clips
    first, second = (
        {name.split("/")[1]: tuple(frames) for name, frames in by_dali.items() if epoch in name}
        for epoch in ("epoch-0000", "epoch-0001")
    )
    assert first.keys() == second.keys()
    assert first != second  # jittered anew


def test_a_clip_that_cannot_be_read_costs_no_other(archive, tmp_path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    clips = read_clips(archive / "clips.parquet")
    spoiled = next(n for n, clip in enumerate(clips) if clip.split == "train")
    clips[spoiled] = replace(clips[spoiled], video_uri=str(tmp_path / "broken.mp4"))
    write_clips(tmp_path / "clips.parquet", clips)
    read = aim_run(tmp_path, tmp_path / "run", "pyav")
    assert len(read) == 2 * 11
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["dead_clips"] == {clips[spoiled].clip_id: "container_not_allowed"}
    assert (tmp_path / "run" / "bundle" / "card.json").exists()
