"""Workers that decode and encode store what workers of two stages store; a video that cannot be had costs no other."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.ray_session import ray_session
from encoders.bundle.card import read_card
from encoders.stages.encode_request import EncoderOptions
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.decode_stage import ArchiveVectorStage
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.workers import WorkerOptions
from indexing.sources.fetch_cache import FetchOptions
from indexing.store.collection import open_collection
from tests.support.small_videos import write_video
from tfcovr import run_command


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in range(6):
        write_video(folder / f"good-{number}.mp4", number)
    (folder / "text.mp4").write_text("these are words\n" * 100)
    return folder


def stored(config: IndexConfig, encoder_id: str) -> dict[str, np.ndarray]:
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=encoder_id)
        return {
            row["clip_key"]: np.asarray(row["embedding"], np.float32)
            for row in collection.rows(("clip_key", "embedding"))
        }


@pytest.mark.parametrize("backend", ["onnx", pytest.param("torch", marks=pytest.mark.long)])
def test_the_collection_is_the_same(archive, tiny_bundle, tmp_path, backend) -> None:
    two = IndexConfig(
        bundle=tiny_bundle,
        clips=str(archive),
        milvus_uri=str(tmp_path / "two"),
        run_dir=tmp_path / "run_two",
        backend=backend,
        workers=WorkerOptions(decode="pyav", device="cpu", share_device="off"),
    )
    one = replace(
        two,
        milvus_uri=str(tmp_path / "one"),
        run_dir=tmp_path / "run_one",
        workers=replace(two.workers, share_device="on"),
    )
    expected, found = index_archive(two), index_archive(one)
    for name in ("written", "dead", "dead_by_reason", "embed_backends", "decode_backends"):
        assert getattr(found, name) == getattr(expected, name), name
    assert (found.written, found.dead_by_reason) == (6, {"container_not_allowed": 1})
    assert (found.frames_decoded, found.frames_used) == (
        expected.frames_decoded,
        expected.frames_used,
    )
    assert {stage.name for stage in found.stages} == {"decode", "embed", "write"}
    assert all(stage.busy_s > 0 for stage in found.stages)
    assert all(speed.ceiling_per_s > 0 for speed in found.speeds)
    ours, theirs = stored(one, found.encoder_id), stored(two, expected.encoder_id)
    assert ours.keys() == theirs.keys()
    for key, vector_D in ours.items():
        np.testing.assert_allclose(vector_D, theirs[key], atol=1e-5)
    arguments = ["--bundle", str(tiny_bundle), "--clips", one.clips]
    arguments += ["--milvus-uri", one.milvus_uri, "--run-dir", str(one.run_dir)]
    assert run_command("verify", arguments) == 0


def test_a_video_that_cannot_be_fetched_costs_no_other(archive, tiny_bundle, tmp_path) -> None:
    """Also not when the next one is where the worker measures itself: what waits then is no part of that."""
    stage = ArchiveVectorStage(
        sampling=read_card(tiny_bundle).sampling,
        fetch=FetchOptions(cache_dir=tmp_path / "cache"),
        encode=EncoderOptions(bundle_dir=str(tiny_bundle), backend="onnx", num_threads=1),
    )
    gone, path = "http://127.0.0.1:9/gone.mp4", archive / "good-0.mp4"
    row = {
        "video_uri": gone,
        "fetch_uri": gone,
        "content_hash": "0" * 16,
        "size_bytes": 100,
        "version": "1",
        "clip_ids": ["a", "b"],
        "labels": ["a", "b"],
        "spans": [{"start_s": 0.0, "end_s": 1.0}, {"start_s": 1.0, "end_s": None}],
    }
    good = row | {
        "video_uri": str(path),
        "fetch_uri": "",
        "size_bytes": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
        "planned_on": socket.gethostname(),
        "clip_ids": ["c"],
        "labels": ["c"],
        "spans": [{"start_s": 0.0, "end_s": None}],
    }
    given = list(stage([row, good]))
    rows = {one["clip_id"]: one for one in given}
    stage.close()
    assert len(given) == len(rows)
    assert {name: one["error"]["reason"] for name, one in rows.items()} == {
        "a": "fetch_failed",
        "b": "fetch_failed",
        "c": "",
    }
    assert len({tuple(sorted(one)) for one in rows.values()}) == 1


def test_a_broken_encoder_ends_the_run_loudly(archive, tiny_bundle, tmp_path) -> None:
    config = IndexConfig(
        bundle=tiny_bundle,
        clips=str(archive),
        milvus_uri=str(tmp_path / "milvus"),
        run_dir=tmp_path / "run",
        backend="tensorrt",
        workers=WorkerOptions(decode="pyav", device="cpu", share_device="on"),
    )
    with pytest.raises(ValueError, match="device is 'cpu'; TensorRT engines run on"):
        index_archive(config)
