"""Cached text features: one row per distinct edit text; vectors of a frozen encoder are stored beside the clip vectors.

U distinct texts, L tokens, D width of text vectors, N texts of a batch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from cluster.storage import write_atomic
from encoders.query_encoder.text_encoder import TextEncoder

_TEXTS_PER_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One row per distinct edit text: its vector, if the text encoder is frozen, and its tokens."""

    number_by_text: Mapping[str, int]
    vectors_UD: Tensor | None
    tokens_UL: Tensor
    mask_UL: Tensor

    def rows(self, numbers: Tensor) -> dict[str, Tensor]:
        """The module's text inputs for these rows."""
        if self.vectors_UD is not None:
            return {"text": self.vectors_UD[numbers]}
        mask_NL = self.mask_UL[numbers]
        length = int(mask_NL.sum(dim=1).max())
        return {"tokens": self.tokens_UL[numbers, :length], "mask": mask_NL[:, :length]}


def read_texts(texts: Sequence[str], encoder: TextEncoder, *, cache_dir: Path | None) -> TextTable:
    """Tokens of all texts, and with `cache_dir` (a frozen encoder) their vectors, cached there."""
    tokens_UL, mask_UL = encoder.tokenizer.tokenize(texts)
    vectors_UD = None
    if cache_dir is not None:
        path = cache_dir / f"text_vectors-{_key(texts, encoder)}.safetensors"
        if not path.exists():
            vectors = {"vectors": _encode(tokens_UL, mask_UL, encoder)}
            write_atomic(path, safetensors.torch.save(vectors))
        vectors_UD = safetensors.torch.load_file(path)["vectors"]
    return TextTable(
        number_by_text={text: n for n, text in enumerate(texts)},
        vectors_UD=vectors_UD,
        tokens_UL=tokens_UL,
        mask_UL=mask_UL,
    )


def _encode(tokens_UL: Tensor, mask_UL: Tensor, encoder: TextEncoder) -> Tensor:
    """Encode in order of length, because a batch is padded to its longest text."""
    device = next(encoder.parameters()).device
    order = mask_UL.sum(dim=1).argsort(stable=True)
    vectors_UD = torch.empty(len(order), encoder.text_dim)
    with torch.inference_mode():
        for part in order.split(_TEXTS_PER_BATCH):
            length = int(mask_UL[part].sum(dim=1).max())
            tokens, mask = tokens_UL[part, :length], mask_UL[part, :length]
            vectors_UD[part] = encoder(tokens.to(device), mask.to(device)).float().cpu()
    return vectors_UD


def _key(texts: Sequence[str], encoder: TextEncoder) -> str:
    """Cache key of the texts, the tokenisation and the weights."""
    digest = hashlib.sha256(json.dumps([asdict(encoder.config), list(texts)]).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
