"""An archive of 200,000 clip vectors in a Milvus server: a seeded mixture, an index tuned against exact search, and a bundle to ask it with.

Everything is kept in the work folder and made once: what an interrupted run has inserted stays, and the index is not built again.
N vectors, D = 768 their width, Q queries.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.storage import write_atomic
from encoders.bundle.card import read_card
from indexing.store.collection import ClipCollection
from indexing.store.vector_index import HnswIndex, build_index

DIM = 768
NOISE_DIM = 64
NUM_LABELS = 300
COLLECTION = "scale"
INDEX = HnswIndex(m=16, ef_construction=100)
EF_CHOICES = (32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
_CHUNK = 2000
_NUM_QUIET = 4
_POSITIONS, _TWISTS = ("pike", "tuck", "free"), ("0.5", "1.5", "2.5", "3.5")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Unit vectors around random centres; the noise lies in a subspace, as that of real encoders does."""

    num_vectors: int = 200_000
    num_centres: int = 2000
    noise: float = 0.8
    """Its length beside a centre's 1."""
    seed: int = 0

    def chunks(self, first: int = 0) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(number of its first vector, vectors [N, D], centres [N]) from chunk `first` on; each has its own seed."""
        rng = np.random.default_rng([self.seed, 0])
        centres_KD = _unit(rng.normal(size=(self.num_centres, DIM)))
        basis_DB = np.linalg.qr(rng.normal(size=(DIM, NOISE_DIM)))[0]
        for start in range(first * _CHUNK, self.num_vectors, _CHUNK):
            count = min(_CHUNK, self.num_vectors - start)
            rng = np.random.default_rng([self.seed, 1, start])
            which_N = rng.integers(self.num_centres, size=count)
            noise_NB = rng.normal(size=(count, NOISE_DIM)) * self.noise / np.sqrt(NOISE_DIM)
            yield start, _unit(centres_KD[which_N] + noise_NB @ basis_DB.T), which_N

    def all_vectors(self) -> np.ndarray:
        """[N, D] in the order of their clip ids."""
        return np.concatenate([vectors_ND for _, vectors_ND, _ in self.chunks()])


def clip_id(number: int) -> str:
    """Of the clip with this number."""
    return f"clip-{number:07d}"


def make_bundle(folder: Path, *, widths: str) -> Path:
    """A bundle of the archive's width with the packaged text encoder; the rest is untrained, which costs the same time."""
    from encoders.bundle.folder import save_bundle
    from encoders.export.config import ExportConfig
    from encoders.export.onnx_export import export_onnx

    if not (folder / "card.json").exists():
        import torch
        from torch import nn

        from encoders.query_encoder.config import FusionConfig
        from encoders.query_encoder.fusion import FUSION_WIDTHS, build_fusion
        from encoders.query_encoder.text_encoder import open_text_encoder
        from encoders.video_encoder.config import FrameTemporalConfig
        from encoders.video_encoder.registry import build_video_encoder

        torch.manual_seed(0)
        video = build_video_encoder(FrameTemporalConfig(num_frames=4, embedding_dim=DIM, depth=1))
        text = open_text_encoder()
        shape = FUSION_WIDTHS[widths]
        fusion = build_fusion(
            FusionConfig(kind="combiner", video_dim=DIM, text_dim=text.text_dim, **shape)
        )
        info = {"purpose": "speed of search; untrained"}
        save_bundle(
            folder,
            video=video.eval(),
            text=text.eval(),
            fusion=fusion.eval(),
            head=nn.Linear(DIM, NUM_LABELS),
            labels=[_label(number) for number in range(NUM_LABELS)],
            training_info=info,
        )
    export_onnx(ExportConfig(bundle=folder, num_clips=2))
    return folder


def fill(
    collection: ClipCollection, mixture: Mixture, bundle_dir: Path, state_path: Path
) -> dict[str, Any]:
    """Insert what is missing and build the index; seconds that it took, in all calls together."""
    card = read_card(bundle_dir)
    collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
    state: dict[str, Any] = {"num_chunks": 0, "insert_s": 0.0, "index_s": 0.0, "index": None}
    if state_path.exists():
        state |= json.loads(state_path.read_text())

    def keep(name: str, start_s: float) -> float:
        now_s = time.monotonic()
        state[name] += now_s - start_s
        write_atomic(state_path, json.dumps(state))
        return now_s

    now_s = time.monotonic()
    for start, vectors_ND, which_N in mixture.chunks(state["num_chunks"]):
        collection.upsert(
            [
                _row(start + n, vector_D, int(which))
                for n, (vector_D, which) in enumerate(zip(vectors_ND, which_N, strict=True))
            ]
        )
        state["num_chunks"] += 1
        now_s = keep("insert_s", now_s)
        say(f"vectors {start + len(vectors_ND)} of {mixture.num_vectors}")
    if state["index"] != asdict(INDEX):
        collection.flush()
        build_index(collection, INDEX, wait=False)
        _settle(collection)
        state["index"] = asdict(INDEX)
        keep("index_s", now_s)
    collection.load()
    count = collection.count()
    if count != mixture.num_vectors:
        raise ValueError(f"the collection has {count} vectors, not {mixture.num_vectors}; remove {state_path.parent}")  # fmt: skip
    return {
        "insert_s": state["insert_s"],
        "index_s": state["index_s"],
        "index": f"HNSW {asdict(INDEX)}",
    }


def _settle(collection: ClipCollection) -> None:
    """Until the server has merged its segments and built their index: before, it searches some of them without."""
    server = collection.pymilvus
    job = server.compact(collection.name)  # once: each time it would write the segments anew
    while server.get_compaction_state(job) != "Completed":
        time.sleep(1)
    num_quiet = 0
    while num_quiet < _NUM_QUIET:
        time.sleep(5)
        indexed, total = collection.num_indexed()
        say(f"index {indexed} of {total}")
        num_quiet = num_quiet + 1 if indexed == total else 0


def exact_ids(vectors_ND: np.ndarray, query_D: np.ndarray, *, limit: int) -> list[int]:
    """Numbers of the nearest vectors, best first."""
    cosines_N = vectors_ND @ query_D
    best = np.argpartition(-cosines_N, limit)[:limit]
    return best[np.argsort(-cosines_N[best], kind="stable")].tolist()


def tuned_ef(
    ask: Callable[[np.ndarray, int], Sequence[Sequence[str]]],
    vectors_ND: np.ndarray,
    queries_QD: np.ndarray,
    *,
    min_recall: float,
) -> tuple[int, float]:
    """The smallest ef of EF_CHOICES whose recall@10 is high enough, and that recall; `ask(queries, ef)` gives clip ids."""
    wanted = [{clip_id(n) for n in exact_ids(vectors_ND, query_D, limit=10)} for query_D in queries_QD]  # fmt: skip
    recall = 0.0
    for ef in EF_CHOICES:
        answers = ask(queries_QD, ef)
        recall = float(np.mean([len(w & set(f[:10])) / 10 for w, f in zip(wanted, answers, strict=True)]))  # fmt: skip
        say(f"ef {ef}: recall@10 {recall:.4f}")
        if recall >= min_recall:
            return ef, recall
    raise ValueError(f"recall@10 is {recall:.4f} at ef {EF_CHOICES[-1]}; {min_recall} is wanted")


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _row(number: int, vector_D: np.ndarray, which: int) -> dict[str, object]:
    return {
        "clip_key": hashlib.sha256(clip_id(number).encode()).hexdigest()[:32], "clip_id": clip_id(number), "video_uri": f"/videos/{number // 8:06d}.mp4",
        "label": _label(which % NUM_LABELS), "split": "test", "backend": "onnx", "precision": "float32",
        "start_s": float(number % 8) * 4, "end_s": float(number % 8) * 4 + 3.0,
        "attributes": {"position": _POSITIONS[which % 3], "twists": _TWISTS[which % 4]}, "embedding": vector_D.tolist(),
    }  # fmt: skip


def _label(number: int) -> str:
    return f"label-{number:03d}"


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    return (vectors_ND / np.linalg.norm(vectors_ND, axis=-1, keepdims=True)).astype(np.float32)
