"""Which packages are optional, and what to type to install what is missing."""

from dataclasses import dataclass

from encoders.backends.base import GPU_INSTALL
from encoders.decoding.backends import DECODE_BACKENDS

# onnxruntime and onnxruntime-gpu are one module: whichever is there first must go.
ONNX_GPU_LINE = f"pip uninstall -y onnxruntime && {GPU_INSTALL}"


def pip_line(extra: str = "cpu") -> str:
    """The line that installs the tested versions, with one of the extras of pyproject.toml."""
    if extra == "gpu":
        return GPU_INSTALL
    return f"pip install -c constraints.txt -e '.[{extra or 'cpu'}]'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """An optional package: the distributions that bring it, what it is for, the extra that installs it."""

    name: str
    distributions: tuple[str, ...]
    purpose: str
    extra: str
    needs_gpu: bool = False


EXTRAS = (
    *(
        Extra(
            name=backend.label,
            distributions=backend.distributions,
            purpose="decoding on GPUs" if "cuda" in backend.device_kinds else "decoding",
            extra=backend.extra,
        )
        for backend in DECODE_BACKENDS.values()
        if backend.extra
    ),
    Extra(
        name="TensorRT",
        distributions=("tensorrt", "tensorrt-cu13"),
        purpose="engines for NVIDIA GPUs",
        extra="gpu",
        needs_gpu=True,
    ),
    Extra(
        name="TensorRT for RTX",
        distributions=("tensorrt-rtx-cu13-bindings",),
        purpose="engines built ahead of time, without a GPU",
        extra="tensorrt-rtx",
    ),
    Extra(
        name="Milvus server",
        distributions=("milvus",),
        purpose="`tfcovr milvus start`",
        extra="server",
    ),
)
