"""Configs of the text encoder and the fusion of a bundle, as a card describes them; no torch here."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from encoders.query_encoder.factors import Factor, factors_to_list
from encoders.query_encoder.numbers import KINDS

Pooling = Literal["mean", "cls", "own"]
FusionKind = Literal["combiner", "mean", "cross_attention", "factored", "sum"]
FusionInputs = Literal["both", "video", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """How texts are read; the model's own shape is kept beside it, in Hugging Face's format."""

    source: str
    """Name or folder that the weights came from; for the reader of a card."""
    pooling: Pooling
    """`own` = the model's own text vector (CLIP); `mean` and `cls` of the last states."""
    max_tokens: int = 32
    number_words: bool = True
    """As in the paper: numbers become words ("2.5" -> "two and a half"), lower case, at most `max_words` words."""
    max_words: int = 30
    is_unit: bool = True
    """Vectors are made unit length. Off for BLIP-2 and CLIP: the paper's linear layer reads their state as it is."""
    released_words: bool = False
    """Numbers become words exactly as in TF-CoVR's code: only 0.5 ... 7.0, and some marks become spaces."""
    counts: bool = False
    """The counts that a text names stand behind its vector, one place per count (`encoders.query_encoder.numbers`): the fusion's first
    linear layer then has a learned vector for each count, beside the text's."""
    full_length: bool = False
    """Texts are padded to `max_tokens` and padding is read as text, as SigLIP was trained."""
    num_reads: int = 0
    """Number of learned reads of the token states that stand last in a text vector (`encoders.query_encoder.token_reader`)."""

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "cls", "own"):
            raise ValueError(f"pooling is {self.pooling!r}; choose 'mean', 'cls' or 'own'")
        if self.max_tokens < 3 or self.max_words < 1:
            raise ValueError(
                f"max_tokens is {self.max_tokens} (at least 3) and max_words {self.max_words} (at least 1)"
            )
        if self.num_reads < 0:
            raise ValueError(f"num_reads is {self.num_reads}; it must be at least 0")
        if self.released_words and not self.number_words:
            raise ValueError(
                "released_words is True and number_words False; released_words is a way of number_words"
            )

    @property
    def num_count_columns(self) -> int:
        """Columns of token ids that hold codes of counts, before the tokens."""
        return len(KINDS) if self.counts else 0


def text_config_to_dict(config: TextConfig) -> dict[str, Any]:
    """What the card keeps; later options only where they are used, so that the ids of older bundles stay what they are."""
    usual = {
        "is_unit": True, "released_words": False, "counts": False, "full_length": False, "num_reads": 0,
    }  # fmt: skip
    return {
        name: value
        for name, value in asdict(config).items()
        if name not in usual or value != usual[name]
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionConfig:
    """A fusion; query vectors have the width of clip vectors."""

    kind: FusionKind
    video_dim: int
    text_dim: int
    inputs: FusionInputs = "both"
    """`video` and `text`: the other input is zeroed, in training and after."""
    projection_dim: int = 3072
    """Combiner only: width of each projected input."""
    hidden_dim: int = 6144
    """Combiner only: width of the hidden layers."""
    dropout: float = 0.5
    """Combiner and cross-attention."""
    num_heads: int = 4
    """Cross-attention only."""
    keeps_length: bool = False
    """The fusion reads clip vectors with the length that the encoder gave them, as TF-CoVR's code does, not unit vectors."""
    factors: tuple[Factor, ...] = ()
    """Factored fusion only: what an edit can change. Without factors it is the Combiner."""
    read_dim: int = 0
    """Factored fusion only: width of the last part of a text vector, which was read for each factor in turn, in equal shares."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(FusionKind):
            raise ValueError(
                f"fusion kind {self.kind!r} is unknown; choose one of {sorted(get_args(FusionKind))}"
            )
        if self.inputs not in ("both", "video", "text"):
            raise ValueError(f"inputs is {self.inputs!r}; choose 'both', 'video' or 'text'")
        if min(self.video_dim, self.text_dim, self.projection_dim, self.hidden_dim) < 1:
            raise ValueError(f"every width must be at least 1; got {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.factors and self.kind != "factored":
            names = [factor.name for factor in self.factors]
            raise ValueError(f"factors are {names}; they must be empty for kind {self.kind!r}")
        if not 0 <= self.read_dim < self.text_dim or self.read_dim % max(len(self.factors), 1):
            raise ValueError(
                f"read_dim is {self.read_dim}; it must be below text_dim ({self.text_dim}), the same for each of {len(self.factors)} factors"
            )
        if len({factor.name for factor in self.factors}) != len(self.factors):
            raise ValueError(f"factors are {self.factors}; their names must differ")
        if self.keeps_length and self.kind == "factored":
            raise ValueError("keeps_length is True; it must be False for kind 'factored'")
        if self.num_heads < 1 or (
            self.kind == "cross_attention" and self.video_dim % self.num_heads
        ):
            raise ValueError(
                f"num_heads is {self.num_heads}; it must be at least 1 and divide video_dim ({self.video_dim})"
            )


def fusion_config_to_dict(config: FusionConfig) -> dict[str, Any]:
    """What the card keeps; later options only where they are used, so that the ids of older bundles stay what they are."""
    usual = {"num_heads": 4, "keeps_length": False, "read_dim": 0}
    values = {
        name: value
        for name, value in asdict(config).items()
        if name not in usual or value != usual[name]
    }
    del values["factors"]
    return values | ({"factors": factors_to_list(config.factors)} if config.factors else {})
