"""Rows of the collection: keys, checked vectors and digests."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from encoders.clips import Clip
from indexing.sources.uris import public_uri
from indexing.store.schema import MOST_BYTES, TO_THE_END

# A character takes at most 4 bytes, and 12 as JSON, which adds 6 to each pair.
_SHORT = {name: most // 4 for name, most in MOST_BYTES.items()} | {
    "attributes": MOST_BYTES["attributes"] // 12
}


def require_storable(clip: Clip) -> None:
    """ValueError where Milvus would refuse the row: at once, not after hours."""
    if (
        len(clip.clip_id) <= _SHORT["clip_id"]
        and len(clip.video_uri) <= _SHORT["video_uri"]
        and len(clip.label or "") <= _SHORT["label"]
        and len(clip.split or "") <= _SHORT["split"]
        and sum(len(n) + len(v) + 6 for n, v in clip.attributes.items()) <= _SHORT["attributes"]
    ):
        return  # of millions, nearly all
    texts = {
        "clip_id": clip.clip_id,
        "video_uri": public_uri(clip.video_uri),
        "label": clip.label or "",
        "split": clip.split or "",
        "attributes": json.dumps(dict(clip.attributes)),
    }
    for name, text in texts.items():
        if (num_bytes := len(text.encode())) > MOST_BYTES[name]:
            raise ValueError(
                f"clip {clip.clip_id[:100]!r}: {name} has {num_bytes} bytes; Milvus keeps at most {MOST_BYTES[name]}"
            )


def clip_key(
    encoder_id: str, clip_id: str, content_hash: str, start_s: float, end_s: float | None
) -> str:
    """Primary key in Milvus, 32 hex digits. `end_s` None = to the end of the video."""
    end_us = "end" if end_s is None else str(round(end_s * 1_000_000))
    parts = (encoder_id, clip_id, content_hash, str(round(start_s * 1_000_000)), end_us)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def collection_row(
    clip: Clip, *, key: str, embedding_D: np.ndarray, backend: str, precision: str
) -> dict[str, Any]:
    """One clip as Milvus stores it; `embedding_D` is as long as the encoder made it."""
    return {
        "clip_key": key,
        "clip_id": clip.clip_id,
        "video_uri": clip.video_uri,
        "label": clip.label or "",
        "split": clip.split or "",
        "backend": backend,
        "precision": precision,
        "start_s": float(clip.start_s),
        "end_s": stored_end_s(clip.end_s),
        "attributes": dict(clip.attributes),
        "embedding": embedding_D.tolist(),
    }


def stored_end_s(end_s: float | None) -> float:
    """The end of a span as Milvus stores it, which has no null in a numeric field; everywhere else None is to the end."""
    return TO_THE_END if end_s is None else float(end_s)


def labels_of(clip: Clip) -> str:
    """What Milvus stores of a clip beside its place, as a text that goes with its row through the stages."""
    return json.dumps([clip.label, clip.split, dict(clip.attributes)])


def clip_of_batch(batch: Mapping[str, np.ndarray], i: int) -> Clip:
    """The clip of row `i` of a batch with `clip_id`, `video_uri`, `span` and `labels`."""
    label, split, attributes = json.loads(str(batch["labels"][i]))
    return Clip(
        clip_id=str(batch["clip_id"][i]),
        video_uri=str(batch["video_uri"][i]),
        label=label,
        split=split,
        attributes=attributes,
        **batch["span"][i],
    )


def row_of_batch(batch: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
    """What Milvus stores of row `i` of a batch that has its keys. ValueError for a vector of another length than 1.

    With a column `vector_length` the vector is stored as long as it was before.
    """
    clip = clip_of_batch(batch, i)
    length = float(batch["vector_length"][i]) if "vector_length" in batch else 1.0
    return collection_row(
        clip,
        key=str(batch["clip_key"][i]),
        embedding_D=checked_vector(batch["embedding"][i], clip.clip_id) * np.float32(length),
        backend=str(batch["embed_backend"][i]),
        precision=str(batch["embed_precision"][i]),
    )


def row_digest(clip: Clip) -> str:
    """Of what a row holds beside its key and its vector."""
    parts = [clip.video_uri, clip.label, clip.split, sorted(clip.attributes.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def is_row_of(row: Mapping[str, Any], clip: Clip) -> bool:
    """Whether a row holds beside its key and its vector what it should."""
    texts = (clip.video_uri, clip.label or "", clip.split or "")
    span = (float(clip.start_s), stored_end_s(clip.end_s))
    return (
        (row["video_uri"], row["label"], row["split"]) == texts
        and (row["start_s"], row["end_s"]) == span
        and dict(row["attributes"] or {}) == dict(clip.attributes)
    )


def checked_vector(vector_D: np.ndarray, clip_id: str) -> np.ndarray:
    """The vector itself; ValueError where its length is not 1."""
    length = float(np.linalg.norm(vector_D))
    if not abs(length - 1.0) < 1e-3:
        raise ValueError(f"the vector of clip {clip_id!r} has length {length}; it must be 1")
    return vector_D
