"""Hugging Face text models: BLIP-2's Q-Former text branch, CLIP's or SigLIP's text tower, or any encoder with last states.

Each takes input_ids [N, L] and, but for SigLIP, attention_mask. CLIP answers `text_embeds` and SigLIP `pooler_output` [N, D], the others
`last_hidden_state` [N, L, D].
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2TextModelWithProjection,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    SiglipTextConfig,
    SiglipTextModel,
)
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings

QFORMER = "blip_2_qformer"
CLIP_TEXT = "clip_text_model"
SIGLIP_TEXT = "siglip_text_model"


class QFormerText(nn.Module):
    """The BERT inside BLIP-2's Q-Former, reading text alone (the paper's text branch).

    What only the image queries pass through (cross-attention, their feed-forward layers) is left out: it would never train.
    """

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        if not config.use_qformer_text_input:
            raise ValueError("the Q-Former has no text layers (use_qformer_text_input is False)")
        self.config = config
        self.embeddings = Blip2TextEmbeddings(config)
        self.qformer = Blip2QFormerModel(config)
        for layer in cast(Any, self.qformer.encoder).layer:
            for name in ("crossattention", "intermediate_query", "output_query"):
                if hasattr(layer, name):
                    delattr(layer, name)
            layer.has_cross_attention = False

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        """The Q-Former's output over the tokens; `last_hidden_state` is [N, L, D]."""
        return self.qformer(
            query_embeds=self.embeddings(input_ids=input_ids),
            query_length=0,
            attention_mask=attention_mask,
            **options,
        )


def open_text_model(place: str) -> nn.Module:
    """Pretrained weights from a folder or a Hugging Face name, by the model type of its config."""
    kind = AutoConfig.from_pretrained(place).model_type
    openers: dict[str, Callable[[str], nn.Module]] = {
        "blip-2": _open_qformer,
        "clip": partial(_open_tower, CLIPTextModelWithProjection),
        CLIP_TEXT: partial(_open_tower, CLIPTextModelWithProjection),
        "siglip": partial(_open_tower, SiglipTextModel),
        SIGLIP_TEXT: partial(_open_tower, SiglipTextModel),
    }
    return openers.get(kind, _open_any)(place)


def build_text_model(architecture: Mapping[str, Any]) -> nn.Module:
    """Random weights in the shape that `model.config.to_dict()` describes."""
    values = dict(architecture)
    settings = AutoConfig.for_model(values.pop("model_type"), **values)
    if isinstance(settings, Blip2QFormerConfig):
        return QFormerText(settings)
    if isinstance(settings, CLIPTextConfig):
        return CLIPTextModelWithProjection(settings)
    if isinstance(settings, SiglipTextConfig):
        return SiglipTextModel(settings)
    return AutoModel.from_config(settings, dtype=torch.float32)


def _open_any(place: str) -> nn.Module:
    loaded: Any = AutoModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    model, report = loaded
    require_whole(place, report, but=("pooler.",))  # which is not read
    return model


def _open_tower(kind: Any, place: str) -> nn.Module:
    loaded: Any = kind.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    model, report = loaded
    require_whole(place, report)
    return model


def _open_qformer(place: str) -> nn.Module:
    loaded: Any = Blip2TextModelWithProjection.from_pretrained(
        place, dtype=torch.float32, output_loading_info=True
    )
    whole, report = loaded
    config = whole.config.qformer_config
    if not config.use_qformer_text_input:
        raise ValueError(
            f"{place}: its Q-Former reads no text; choose a BLIP-2 for image-text retrieval, such as "
            "Salesforce/blip2-itm-vit-g"
        )
    require_whole(place, report, but=("text_projection", "query_tokens"))
    model = QFormerText(config)
    wanted = model.state_dict()
    model.load_state_dict({name: v for name, v in whole.state_dict().items() if name in wanted})
    return model


def require_whole(place: str, report: Mapping[str, Any], but: tuple[str, ...] = ()) -> None:
    """transformers fills missing weights with chance; we refuse them."""
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(but or ("\0",)))
    if missing:
        raise ValueError(f"{place}: {len(missing)} weights are missing, first: {missing[:3]}")
