"""A watch with a real encoder: what `tfcovr index` would leave, without Ray, while files come, move, change and go."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from encoders.clips import write_clips
from indexing.ledger.dead_letters import read_dead_letters
from indexing.pipeline.config import VerifyConfig
from indexing.pipeline.verify import verify_archive
from indexing.sources.archive import list_archive
from indexing.sources.watching.config import WatchConfig, WatchRules
from indexing.sources.watching.run import watch_archive
from indexing.store.collection import ClipCollection, open_collection
from tests.support.expected_vectors import expected_vectors
from tests.support.small_videos import write_video

_SECONDS = 300


class Archive:
    """A folder with a watch that runs beside the test."""

    def __init__(self, root: Path, bundle: Path) -> None:
        self.videos, self.milvus, self.run_dir = root / "videos", root / "milvus", root / "run"
        self.videos.mkdir()
        self.root, self.bundle = root, bundle
        self.collection: ClipCollection | None = None

    def watch(self, stop: threading.Event) -> None:
        watch_archive(
            WatchConfig(
                videos=str(self.videos),
                bundle=self.bundle,
                milvus_uri=str(self.milvus),
                run_dir=self.run_dir,
                rules=WatchRules(settle_s=0.3, patience_s=1.0),
            ),
            is_stopped=stop,
        )

    def rows(self) -> dict[str, np.ndarray]:
        assert self.collection is not None
        if not self.collection.exists():
            return {}
        found = self.collection.rows(("clip_key", "embedding"))
        return {row["clip_key"]: np.asarray(row["embedding"]) for row in found}

    def expected(self) -> dict[str, np.ndarray]:
        clips = self.root / "clips.parquet"
        good = [clip for clip in list_archive(self.videos).clips if clip.clip_id != "cut.mp4"]
        write_clips(clips, good)
        return expected_vectors(self.bundle, clips)

    def settle(self) -> None:
        """Until the collection holds what it must, with the vectors that it must."""
        expected = self.expected()
        wait_until(lambda: self.rows().keys() == expected.keys())
        for key, vector_D in self.rows().items():
            assert float(vector_D @ expected[key]) > 0.999


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < give_up_s, "it did not come to be"
        time.sleep(0.1)


@pytest.fixture
def archive(tmp_path, tiny_bundle) -> Iterator[Archive]:
    archive = Archive(tmp_path, tiny_bundle)
    for number in range(2):
        write_video(archive.videos / f"{number}.mp4", number)
    stop = threading.Event()
    milvus = open_collection(str(archive.milvus), "clips")
    with ThreadPoolExecutor(1) as beside, milvus as archive.collection:
        watch = beside.submit(archive.watch, stop)
        try:
            yield archive
        finally:
            stop.set()
            watch.result(_SECONDS)


def test_a_collection_follows_a_folder(archive) -> None:
    archive.settle()
    write_video(archive.videos / "new.mp4", 7)
    whole = (archive.videos / "new.mp4").read_bytes()
    (archive.videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (archive.videos / "0.mp4").rename(archive.videos / "moved.mp4")
    write_video(archive.videos / "1.mp4", 8)
    archive.settle()
    wait_until(
        lambda: [letter.clip_id for letter in read_dead_letters(archive.run_dir)] == ["cut.mp4"]
    )
    (archive.videos / "new.mp4").unlink()
    (archive.videos / "cut.mp4").unlink()
    archive.settle()
    wait_until(lambda: read_dead_letters(archive.run_dir) == [])
    found = verify_archive(
        VerifyConfig(
            bundle=archive.bundle,
            clips=str(archive.videos),
            milvus_uri=str(archive.milvus),
            run_dir=archive.run_dir,
        )
    )
    assert found.is_right
    assert found.present == 2
