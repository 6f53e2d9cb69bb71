from pathlib import Path

import numpy as np
import pytest

from encoders.clips import Clip
from indexing.pipeline.canary_rows import (
    RowMixUpError,
    add_canaries,
    canary_collection_name,
    canary_number,
    check_canary_vector,
    check_stored_canaries,
)
from indexing.store.collection import open_collection
from indexing.store.rows import collection_row


@pytest.mark.parametrize(("num_shards", "num_clips", "copies"), [(3, 5, 1), (500, 2500, 3)])
def test_every_canary_rides_in_every_copy_and_is_spread(num_shards, num_clips, copies) -> None:
    shards = [{"video_uri": f"{i}.mp4", "clip_ids": ["a"]} for i in range(num_shards)]
    mixed, num_copies = add_canaries(shards, num_clips)
    assert num_copies == copies
    names = [name for shard in mixed for name in shard["canaries"]]
    assert len(set(names)) == len(names) == 8 * copies
    assert sorted(map(canary_number, names)) == sorted(list(range(8)) * copies)
    per_shard = [len(shard["canaries"]) for shard in mixed]
    assert max(per_shard) <= -(-8 * copies // num_shards)
    assert [shard["clip_ids"] for shard in mixed] == [["a"]] * num_shards


def test_only_its_own_vector_passes_and_ties_are_no_mix_up() -> None:
    expected_ND = np.eye(8, 16, dtype=np.float32)
    check_canary_vector("canary:4:3", expected_ND[3], expected_ND)
    for wrong_D in (expected_ND[2], np.zeros(16), expected_ND[3] + 0.1 * expected_ND[2]):
        with pytest.raises(RowMixUpError, match="rows were mixed up"):
            check_canary_vector(
                "canary:4:3", wrong_D / max(np.linalg.norm(wrong_D), 1), expected_ND
            )
    alike_ND = np.repeat(expected_ND[:1], 8, axis=0)
    check_canary_vector("canary:0:7", alike_ND[0], alike_ND)


def test_rows_that_a_dead_worker_left_by_measuring_itself_are_no_canaries(milvus_uri) -> None:
    expected_ND = np.eye(8, 16, dtype=np.float32)
    names = [f"canary:0:{number}" for number in range(8)]
    # Nearer to the first canary than any other row, but for itself.
    left = zip(["probe"] * 3, np.repeat(expected_ND[:1], 3, axis=0), strict=True)
    with open_collection(milvus_uri, "canaries") as collection:
        collection.create_or_check(encoder_id="encoder-1", embedding_dim=16)
        rows = [*zip(names, expected_ND, strict=True), *left]
        collection.upsert(
            [
                collection_row(
                    Clip(clip_id=name, video_uri=name),
                    key=f"{name}-{number}",
                    embedding_D=vector_D,
                    backend="onnx",
                    precision="float32",
                )
                for number, (name, vector_D) in enumerate(rows)
            ]
        )
        check_stored_canaries(collection, expected_ND, 1)
        with pytest.raises(RowMixUpError, match="8 of 16 canaries are in Milvus"):
            check_stored_canaries(collection, expected_ND, 2)


def test_each_run_folder_has_canaries_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = canary_collection_name("c" * 255, Path("run"))
    assert name == canary_collection_name("c" * 255, tmp_path / "run")
    assert name != canary_collection_name("c" * 255, tmp_path / "other")
    assert len(name) < 255
