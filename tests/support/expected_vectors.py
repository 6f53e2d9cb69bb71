"""What an indexing run of local clips has to leave in the collection."""

from pathlib import Path

import numpy as np

from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.clips import read_clips
from encoders.decoding.decode import decode_clips
from encoders.media.frame_index import Span
from indexing.sources.content import hash_file
from indexing.store.rows import clip_key


def expected_vectors(bundle_dir: Path, clips_path: Path) -> dict[str, np.ndarray]:
    """Key -> vector, computed here without Ray, Milvus or a ledger."""
    card, encoder = read_card(bundle_dir), open_backend(bundle_dir, "onnx")
    vectors = {}
    for clip in read_clips(clips_path):
        span = Span(start_s=clip.start_s, end_s=clip.end_s)
        frames_NTHWC = decode_clips(clip.video_uri, [span], card.sampling).frames_NTHWC
        content_hash = hash_file(clip.video_uri)
        key = clip_key(card.encoder_id, clip.clip_id, content_hash, clip.start_s, clip.end_s)
        vectors[key] = encoder.embed_clips(frames_NTHWC)[0]
    return vectors
