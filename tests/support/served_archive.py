"""Writes an archive of a few clips with known vectors into Milvus, for the tests of the service."""

from pathlib import Path

import numpy as np

from benchmarks.dives.video import write_video
from encoders.bundle.card import read_card
from indexing.store.collection import open_collection

NUM_CLIPS = 12
ODD_IDS = (
    "slash/media", "slash/strip.jpg", "a/../b", "..", "cr\r\nlf", "q?x=1&id=2#f", " %2F+ ", "media", "\u202e\u00e4",
)  # fmt: skip


def write_served_archive(folder: Path, bundle_dir: Path, *, odd_rows: bool = False) -> np.ndarray:
    """Videos and a collection `clips` in folder/milvus; two of the clips name a file that must not be served.

    With `odd_rows`, further clips have odd ids or spans, and the opposite of the vector of clip/4.
    """
    rng = np.random.default_rng(3)
    for number in range(2):
        frames = rng.integers(0, 255, (30, 64, 64, 3), np.uint8)
        write_video(folder / f"{number}.mp4", [frames], codec="h264")
    (folder / "link.mp4").symlink_to("/etc/passwd")
    (folder / "text.mp4").write_text("root:x:0:0")
    card = read_card(bundle_dir)
    vectors = rng.normal(size=(NUM_CLIPS, card.embedding_dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    files = ["0.mp4"] * (NUM_CLIPS - 3) + ["1.mp4", "link.mp4", "text.mp4"]
    rows = [
        {
            "clip_key": f"k{i:02d}", "clip_id": f"clip/{i}", "video_uri": str(folder / files[i]), "label": f"l{i % 3}",
            "split": "test", "backend": "onnx", "precision": "float32", "start_s": 0.2 if i else 0.0,
            "end_s": 0.8 if i else -1.0, "attributes": {"twists": str(i % 3)}, "embedding": vectors[i].tolist(),
        }
        for i in range(NUM_CLIPS)
    ]  # fmt: skip
    if odd_rows:
        odd = rows[0] | {"embedding": (-vectors[4]).tolist()}
        rows += [odd | {"clip_key": f"odd{i}", "clip_id": name} for i, name in enumerate(ODD_IDS)]
        for i, (start_s, end_s) in enumerate(((-5.0, 1.0), (1.0, 0.5))):
            rows.append(odd | {"clip_key": f"bad{i}", "clip_id": f"bad-{i}", "start_s": start_s, "end_s": end_s})  # fmt: skip
    with open_collection(str(folder / "milvus"), "clips") as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        collection.upsert(rows)
        collection.flush()
    return vectors
