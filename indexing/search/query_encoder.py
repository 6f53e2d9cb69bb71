"""Query encoder: clip vectors and edit texts to query vectors, with a cache of text vectors.

The exported query graph reads text and clip at once; here it is split where the text vector enters the fusion, so that a text is
encoded once for any number of clips. N queries, D clip vector, E text vector.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache

from encoders.backends.base import EncoderBackend, check_queries
from encoders.backends.onnx_backend import QUERY_GRAPH, read_graph
from encoders.bundle.card import BundleCard, check_file
from encoders.bundle.checks import naming_file

NUM_CACHED_TEXTS = 10_000
# The weights that read the text vector, by kind of fusion.
_TEXT_INPUT = {"combiner": "fusion.text_in.weight", "mean": "fusion.text_projection.weight"}
_Texts = Callable[[Sequence[str]], np.ndarray]
_Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]


class QueryEncoder:
    """Text encoder and fusion of a bundle as two steps; they are opened with the first text."""

    def __init__(
        self, bundle_dir: str | Path, backend: EncoderBackend, *, num_threads: int | None = None
    ) -> None:
        self.card: BundleCard = backend.card
        self._bundle_dir, self._backend, self._num_threads = Path(bundle_dir), backend, num_threads
        self._parts: tuple[_Texts, _Fuse] | None = None
        self._texts: LRUCache[str, np.ndarray] = LRUCache(NUM_CACHED_TEXTS)
        self._lock = threading.Lock()

    @property
    def can_compose(self) -> bool:
        """Whether the bundle has a fusion (stage 2)."""
        return self.card.fusion is not None

    def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Text vectors [N, E]; each text is encoded once and cached."""
        encode, _ = self._open()
        with self._lock:
            cached = {text: self._texts[text] for text in texts if text in self._texts}
        # One at a time: with padding to the longest text, the last bits of a vector would depend on the other texts of the batch.
        encoded = {text: encode([text])[0] for text in dict.fromkeys(texts) if text not in cached}
        with self._lock:
            self._texts.update(encoded)
        return np.stack([(cached | encoded)[text] for text in texts])

    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Unit clip vectors [N, D] and text vectors [N, E] -> unit query vectors [N, D]."""
        _, fuse = self._open()
        return fuse(np.ascontiguousarray(clip_vectors_ND, np.float32), text_vectors_NE)

    def compose(self, clip_vectors_ND: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Unit clip vectors and their texts -> unit query vectors [N, D]."""
        vectors_ND = check_queries(self.card, clip_vectors_ND, texts)
        return self.fuse(vectors_ND, self.text_vectors(texts))

    def _open(self) -> tuple[_Texts, _Fuse]:
        with self._lock:
            if self._parts is None:
                check_queries(self.card, np.zeros((0, self.card.embedding_dim)), [])
                openers = {"onnx": self._open_onnx, "torch": self._open_torch}
                self._parts = openers[self._backend.kind]()
            return self._parts

    def _open_torch(self) -> tuple[_Texts, _Fuse]:
        import torch

        bundle = getattr(self._backend, "bundle")  # noqa: B009 - only the torch backend has one
        text, fusion = bundle.text, bundle.fusion

        @torch.inference_mode()
        def encode(texts: Sequence[str]) -> np.ndarray:
            return text.encode(texts).cpu().numpy()

        @torch.inference_mode()
        def fuse(clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
            device = next(fusion.parameters()).device
            pair = (torch.tensor(part).to(device) for part in (clip_vectors_ND, text_vectors_NE))
            return fusion(*pair).cpu().numpy()

        return encode, fuse

    def _open_onnx(self) -> tuple[_Texts, _Fuse]:
        import onnx
        import onnxruntime

        from encoders.query_encoder.text_encoder import tokenizer_from_json

        text_config, fusion_config = self.card.text, self.card.fusion
        if text_config is None or fusion_config is None:
            raise ValueError(f"bundle {self.card.bundle_id} has no text encoder and fusion")
        model = read_graph(check_file(self._bundle_dir, self.card, QUERY_GRAPH))
        joint = _text_vector_name(model, _TEXT_INPUT[fusion_config.kind])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self._num_threads is not None:
            options.intra_op_num_threads = self._num_threads
        providers = ["CPUExecutionProvider"]

        def session(inputs: list[str], outputs: list[str]) -> onnxruntime.InferenceSession:
            part = onnx.utils.Extractor(model).extract_model(inputs, outputs)
            return onnxruntime.InferenceSession(
                part.SerializeToString(), options, providers=providers
            )

        text = session(["input_ids", "attention_mask"], [joint])
        # The fusion reads from the mask only how many queries there are.
        fusion = session(["clip_vector", joint, "attention_mask"], ["query_vector"])
        path = check_file(self._bundle_dir, self.card, "tokenizer.json")
        with naming_file(path):
            tokenizer = tokenizer_from_json(path.read_text(), text_config)

        def encode(texts: Sequence[str]) -> np.ndarray:
            tokens_NL, mask_NL = tokenizer.tokenize(texts)
            inputs = {"input_ids": tokens_NL.numpy(), "attention_mask": mask_NL.numpy()}
            return np.asarray(text.run([joint], inputs)[0])

        def fuse(clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
            mask_NL = np.ones((len(clip_vectors_ND), 1), np.int64)
            inputs = {"clip_vector": clip_vectors_ND, joint: text_vectors_NE}
            inputs["attention_mask"] = mask_NL
            return np.asarray(fusion.run(["query_vector"], inputs)[0])

        return encode, fuse


def _text_vector_name(model: Any, weight: str) -> str:
    """Name of the input of the fusion's first text layer, which is the output of the text encoder."""
    transposed = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Transpose"
    }
    for node in model.graph.node:
        if any(weight in (name, transposed.get(name)) for name in node.input[1:]):
            return node.input[0]
    raise ValueError(
        f"{QUERY_GRAPH} has no layer with the weights {weight!r}; export the bundle again"
    )
