"""Reads checkpoint files for an AIM encoder: OpenAI's CLIP, AIM and TF-CoVR state dicts, as data only."""

import argparse
import pickle  # noqa: TID251  # only the name of the error that torch.load raises
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from encoders.video_encoder.pretrained.aim_weights import SourceWeights

_PREFIXES = ("module.", "model.", "backbone.")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_HEADS = ("cls_head.fc_cls.", "fc_cls.")
_TOP = ("conv1.", "class_embedding", "positional_embedding", "temporal_", "ln_pre.", "ln_post.")
_TRANSFORMERS = ("vision_model.", "embeddings.patch_embedding.")
_BLOCKS = "transformer.resblocks."
# What training programs put beside weights and what can do nothing but hold values.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
# Whose objects training programs save beside the weights: TF-CoVR's own (its scheduler), torch's, Lightning's, Hydra's.
_INERT_MODULES = (
    "src.",
    "torch.optim.",
    "lightning",
    "pytorch_lightning.",
    "omegaconf.",
    "pathlib.",
)
_MAX_INERT = 50
_UNKNOWN_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")


class _Inert:
    """Stands where a checkpoint has an object of a training program. The named class is never looked up, the content is dropped."""

    def __new__(cls, *_arguments: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_checkpoint(path: Path) -> SourceWeights:
    """A .safetensors file, or one that torch.save wrote; ValueError says what it is if it is neither of the known kinds."""
    state = read_tensors(path)
    visual = {
        name.removeprefix("visual."): value
        for name, value in state.items()
        if name.startswith("visual.")
    }
    if visual:
        return _openai_clip(
            path, visual, [name for name in state if not name.startswith("visual.")]
        )
    if any(name.startswith(_TRANSFORMERS) for name in state):
        raise ValueError(
            f"{path} has the names of a transformers model, whose settings are not in this file; "
            "give the folder with its config.json"
        )
    tensors = {name: value for name, value in state.items() if name.startswith((*_TOP, _BLOCKS))}
    heads = {
        prefix: {
            name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)
        }
        for prefix in _HEADS
    }
    heads = {prefix: head for prefix, head in heads.items() if head}
    if len(heads) > 1:
        raise ValueError(f"{path} has two classification heads: {', '.join(sorted(heads))}")
    is_aim = any("_Adapter." in name for name in tensors) or "temporal_embedding" in tensors
    used = {*tensors, *(f"{prefix}{name}" for prefix, head in heads.items() for name in head)}
    return SourceWeights(
        described=f"{'AIM' if is_aim else 'CLIP image'} checkpoint {path}",
        kind="aim" if is_aim else "clip",
        tensors=tensors,
        head=next((_checked_head(path, head) for head in heads.values()), None),
        ignored=tuple(sorted(set(state) - used)),
    )


def _openai_clip(path: Path, visual: dict[str, Tensor], others: list[str]) -> SourceWeights:
    if any(name.startswith("layer1.") for name in visual):
        raise ValueError(f"{path} is a CLIP with a ResNet; AIM needs one with a vision transformer")
    tensors = {name: value for name, value in visual.items() if name.startswith((*_TOP, _BLOCKS))}
    ignored = [f"visual.{name}" for name in visual if name not in tensors]
    return SourceWeights(
        described=f"OpenAI CLIP state dict {path}",
        kind="clip",
        tensors=tensors,
        ignored=tuple(sorted(ignored + others)),
    )


def _checked_head(path: Path, head: dict[str, Tensor]) -> dict[str, Tensor]:
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    weight = shapes.get("weight", ())
    if len(weight) != 2 or shapes != {"weight": weight, "bias": weight[:1]}:
        raise ValueError(
            f"{path}: the classification head has {shapes}; weight [classes, width] and bias [classes] are needed"
        )
    return head


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of the file by name, known prefixes taken off."""
    if path.suffix == ".safetensors":
        try:
            values: Any = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
    else:
        values = _unwrapped(path, _load_torch(path))
    stripped: dict[str, Tensor] = {}
    for name, value in values.items():
        if not isinstance(value, Tensor):
            continue
        short = str(name)
        while short.startswith(_PREFIXES):
            short = short.split(".", 1)[1]
        if short in stripped:
            raise ValueError(f"{path} has two tensors {short!r}, under different prefixes")
        stripped[short] = value
    return stripped


def _load_torch(path: Path) -> Any:
    is_zip = zipfile.is_zipfile(path)
    if is_zip and _is_torchscript(path):
        raise ValueError(
            f"{path} is a TorchScript archive, which holds code beside its weights and is not opened here. "
            'Where you trust it, write its weights alone: python -c "import torch; '
            "torch.save(torch.jit.load('IN.pt', map_location='cpu').state_dict(), 'OUT.pth')\"; "
            "or take the same weights from Hugging Face (openai/clip-vit-base-patch16)"
        )
    inert: list[Any] = []
    while True:
        try:
            with torch.serialization.safe_globals([*_HARMLESS, *inert]):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
            unknown = _UNKNOWN_GLOBAL.search(str(error))
            is_inert = unknown is not None and unknown[1].startswith(_INERT_MODULES)
            if unknown is not None and is_inert and len(inert) < _MAX_INERT:
                inert.append((_Inert, unknown[1]))
                continue
            asked = unknown or re.search(r"GLOBAL (\S+)", str(error))
            detail = f"it asks for {asked[1]}" if asked else str(error).split("\n")[0]
            raise ValueError(
                f"{path} can't be read as plain weights (torch.load, weights_only=True): {detail}. Nothing in it was run"
            ) from error


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(
            name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist()
        )


def _unwrapped(path: Path, values: Any) -> Mapping[Any, Any]:
    """The state dict itself, or the one that lies under a usual key."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} holds a {type(values).__name__}; a dict of tensors is needed")
    if any(isinstance(value, Tensor) for value in values.values()):
        return values
    for key in _WRAPPERS:
        inner = values.get(key)
        if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
            return inner
    raise ValueError(
        f"{path} has no tensors, neither at its top nor under {', '.join(_WRAPPERS)}; its keys are {sorted(map(str, values))[:8]}"
    )
