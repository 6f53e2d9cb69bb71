"""Collections of clips with random vectors, without videos."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from encoders.bundle.card import read_card
from indexing.store.collection import open_collection


def write_random_rows(
    uri: str, name: str, bundle: Path, numbers: Iterable[int], *, seed: int, folder: str = "/videos"
) -> None:
    """Clip `cN` is of the video N.mp4 below `folder`; its vector follows from its number and the seed."""
    card = read_card(bundle)
    rows = []
    for number in numbers:
        vector = np.random.default_rng((seed, number)).normal(size=card.embedding_dim)
        rows.append(
            {
                "clip_key": f"{name}{number}", "clip_id": f"c{number}", "video_uri": f"{folder}/{number}.mp4", "label": f"l{number % 3}",
                "split": "test", "backend": "onnx", "precision": "float32", "start_s": 0.0, "end_s": -1.0,
                "attributes": {}, "embedding": (vector / np.linalg.norm(vector)).tolist(),
            }
        )  # fmt: skip
    with open_collection(uri, name) as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        collection.upsert(rows)
        collection.flush()
