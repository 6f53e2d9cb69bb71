"""An archive of unlabelled clips whose vectors lie in a few groups, for the tests of labelling; `python -m tests.support.labelled_archive` serves it."""

import sys
from pathlib import Path

import numpy as np
import uvicorn

from benchmarks.dives.video import write_video
from encoders.bundle.card import read_card
from indexing.search.client import SearchClient, SearchOptions
from indexing.serving.app import AppConfig, create_app
from indexing.serving.guard.limits import Limits
from indexing.serving.guard.middleware import Guard
from indexing.store.collection import open_collection

NUM_CLIPS, NUM_KINDS = 60, 3
VIDEOS = ("day 1/a.mp4", "b.mp4")


def kind_of(number: int) -> str:
    """The label that the annotator of the tests gives a clip."""
    return f"kind {number % NUM_KINDS}"


def write_unlabelled_archive(folder: Path, bundle_dir: Path) -> None:
    """Two videos in two folders, and a collection `clips` in folder/milvus."""
    rng = np.random.default_rng(0)
    for name in VIDEOS:
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(folder / name, [rng.integers(0, 255, (62, 64, 64, 3), np.uint8)], codec="h264")
    card = read_card(bundle_dir)
    centres = rng.normal(size=(NUM_KINDS, card.embedding_dim))
    rows = []
    for number in range(NUM_CLIPS):
        vector = centres[number % NUM_KINDS] + 0.3 * rng.normal(size=card.embedding_dim)
        rows.append({
            "clip_key": f"k{number:02d}", "clip_id": f"clip/{number}", "video_uri": str(folder / VIDEOS[(number + 1) % 2]),
            "label": "", "split": "", "backend": "onnx", "precision": "float32", "start_s": number / 60, "end_s": 1 + number / 60,
            "attributes": {}, "embedding": (vector / np.linalg.norm(vector)).tolist(),
        })  # fmt: skip
    with open_collection(str(folder / "milvus"), "clips") as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        collection.upsert(rows)
        collection.flush()


def open_app(folder: Path, bundle_dir: Path, labels: Path | None, **limits) -> Guard:
    """The service over the archive."""
    options = SearchOptions(num_threads=1, files=False)

    def open_client() -> SearchClient:
        return SearchClient(str(folder / "milvus"), "clips", bundle_dir, options=options)

    config = AppConfig(limits=Limits(burst=10_000, requests_per_s=1e4, **limits), labels=labels)
    return create_app(open_client, config)


if __name__ == "__main__":
    archive, bundle, labels_folder, port = sys.argv[1:]
    app = open_app(Path(archive), Path(bundle), Path(labels_folder))
    uvicorn.run(app, port=int(port), log_level="error")
