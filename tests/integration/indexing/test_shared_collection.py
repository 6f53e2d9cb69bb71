"""Two archives with the same names in one collection: neither run touches the rows of the other."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.ray_session import ray_session
from encoders.bundle.card import read_card
from indexing.pipeline.config import IndexConfig, VerifyConfig
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.verify import verify_archive
from indexing.store.collection import open_collection
from tests.support.small_videos import write_video


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


def test_two_archives_of_one_collection_keep_their_rows(tmp_path, tiny_bundle) -> None:
    """The same names in both; one changes, is pruned and is repaired, and the other's rows stay as they are."""

    def config(name: str) -> IndexConfig:
        return IndexConfig(
            bundle=tiny_bundle,
            clips=str(tmp_path / name),
            milvus_uri=str(tmp_path / "milvus"),
            run_dir=tmp_path / f"run_{name}",
            prune=True,
            max_delete_share=1.0,
            recompute=0,
        )

    def rows() -> dict[str, str]:
        with open_collection(str(tmp_path / "milvus"), "clips") as collection:
            collection.check(encoder_id=read_card(tiny_bundle).encoder_id)
            assert set(collection.archives().values()) == {
                str(tmp_path / "cam1"),
                str(tmp_path / "cam2"),
            }
            return {row["clip_id"]: row["clip_key"] for row in collection.rows()}

    for name, seeds in (("cam1", (1, 2)), ("cam2", (3, 4))):
        (tmp_path / name).mkdir()
        for number, seed in enumerate(seeds):
            write_video(tmp_path / name / f"{number}.mp4", seed)
        assert index_archive(config(name)).written == 2
    before = rows()
    assert set(before) == {"0.mp4", "1.mp4", "cam2:0.mp4", "cam2:1.mp4"}
    (tmp_path / "cam1" / "0.mp4").unlink()
    write_video(tmp_path / "cam1" / "1.mp4", 5)
    assert index_archive(config("cam1")).deleted == 2
    after = rows()
    assert set(after) == {"1.mp4", "cam2:0.mp4", "cam2:1.mp4"}
    assert after["1.mp4"] != before["1.mp4"]
    assert {i: after[i] for i in after if i != "1.mp4"} == {
        i: before[i] for i in before if ":" in i
    }
    for name in ("cam1", "cam2"):
        verification = verify_archive(
            VerifyConfig(
                bundle=tiny_bundle,
                clips=str(tmp_path / name),
                milvus_uri=str(tmp_path / "milvus"),
                run_dir=tmp_path / f"run_{name}",
            )
        )
        assert verification.is_right
    (tmp_path / "cam3").mkdir()
    write_video(tmp_path / "cam3" / "0.mp4", 6)
    with pytest.raises(ValueError, match=r"the run folder is that of '.*cam2'"):
        index_archive(replace(config("cam3"), run_dir=tmp_path / "run_cam2"))
    assert rows() == after
