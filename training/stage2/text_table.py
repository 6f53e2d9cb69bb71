"""Cached text features: one row per distinct edit text; what a frozen encoder gives is stored beside the clip vectors.

U distinct texts, L tokens, T tokens of all texts, D width of text vectors, E width of token states, N texts of a batch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from cluster.storage import write_atomic
from encoders.query_encoder.text_encoder import TextEncoder

_TEXTS_PER_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class TokenStates:
    """What a reader reads: the states of all texts one behind the other, and the number of tokens of each text."""

    states_TE: Tensor
    lengths_U: Tensor

    @cached_property
    def starts_u(self) -> Tensor:
        """Place of each text's first token."""
        return self.lengths_U.cumsum(0) - self.lengths_U

    def rows(self, numbers: Tensor) -> dict[str, Tensor]:
        """The states of these texts, again one behind the other, and their lengths."""
        lengths_N = self.lengths_U[numbers]
        parts = [
            self.states_TE[start : start + length]
            for start, length in zip(
                self.starts_u[numbers].tolist(), lengths_N.tolist(), strict=True
            )
        ]
        return {"states": torch.cat(parts), "lengths": lengths_N}


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One row per distinct edit text: its vector and token states, if the text encoder is frozen, and its tokens."""

    number_by_text: Mapping[str, int]
    vectors_UD: Tensor | None
    tokens_UL: Tensor
    mask_UL: Tensor
    states: TokenStates | None = None
    """Where the text encoder has a reader; `vectors_UD` are then without its part."""

    def rows(self, numbers: Tensor) -> dict[str, Tensor]:
        """The module's text inputs for these rows."""
        if self.vectors_UD is not None:
            states = {} if self.states is None else self.states.rows(numbers)
            return {"text": self.vectors_UD[numbers], **states}
        mask_NL = self.mask_UL[numbers]
        length = int(mask_NL.sum(dim=1).max())
        return {"tokens": self.tokens_UL[numbers, :length], "mask": mask_NL[:, :length]}


def read_texts(texts: Sequence[str], encoder: TextEncoder, *, cache_dir: Path | None) -> TextTable:
    """Tokens of all texts, and with `cache_dir` (a frozen encoder) their vectors and token states, cached there."""
    tokens_UL, mask_UL = encoder.tokenizer.tokenize(texts)
    cached: dict[str, Tensor] = {}
    if cache_dir is not None:
        path = cache_dir / f"text_vectors-{_key(texts, encoder)}.safetensors"
        if not path.exists():
            write_atomic(path, safetensors.torch.save(_encode(tokens_UL, mask_UL, encoder)))
        cached = safetensors.torch.load_file(path)
    states = None
    if encoder.reader is not None and cached:
        states = TokenStates(states_TE=cached["states"], lengths_U=cached["lengths"])
    return TextTable(
        number_by_text={text: n for n, text in enumerate(texts)},
        vectors_UD=cached.get("vectors"),
        tokens_UL=tokens_UL,
        mask_UL=mask_UL,
        states=states,
    )


def _encode(tokens_UL: Tensor, mask_UL: Tensor, encoder: TextEncoder) -> dict[str, Tensor]:
    """Vectors, states in half precision and lengths; in order of length, because a batch is padded to its longest text."""
    device = next(encoder.parameters()).device
    lengths_U = mask_UL.sum(dim=1) - encoder.config.num_count_columns
    vectors: list[Tensor] = [torch.empty(0)] * len(lengths_U)
    states: list[Tensor] = [torch.empty(0)] * len(lengths_U)
    with torch.inference_mode():
        for part in lengths_U.argsort(stable=True).split(_TEXTS_PER_BATCH):
            length = int(mask_UL[part].sum(dim=1).max())
            tokens, mask = tokens_UL[part, :length], mask_UL[part, :length]
            whole_ND, states_NLE = encoder.whole_and_states(tokens.to(device), mask.to(device))
            for row, number in enumerate(part.tolist()):
                vectors[number] = whole_ND[row].float().cpu()
                states[number] = states_NLE[row, : lengths_U[number]].half().cpu()
    return {"vectors": torch.stack(vectors), "states": torch.cat(states), "lengths": lengths_U}


def _key(texts: Sequence[str], encoder: TextEncoder) -> str:
    """Cache key of the texts, the tokenisation and the weights."""
    digest = hashlib.sha256(json.dumps([asdict(encoder.config), list(texts)]).encode())
    for name, value in sorted(encoder.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
