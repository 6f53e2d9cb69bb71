"""Loading of the TensorRT library that an engine was built with, and the target that it runs on."""

import importlib
from typing import Any

from encoders.backends.base import GPU_INSTALL
from encoders.bundle.engine_records import EngineTarget, Library

MODULES: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
_INSTALL: dict[Library, str] = {
    "tensorrt": GPU_INSTALL,
    "tensorrt-rtx": "pip install -c constraints.txt -e '.[tensorrt-rtx]'",
}


def import_library(library: Library) -> Any:
    """The module; ImportError names the extra."""
    try:
        return importlib.import_module(MODULES[library])
    except ImportError as error:
        raise ImportError(
            f"{MODULES[library]!r} is needed here: {_INSTALL[library]} ({error})"
        ) from error


def local_target(library: Library, *, device: str = "cuda") -> EngineTarget:
    """What engines of this library run on here; ValueError without a GPU."""
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"{library} engines need a CUDA GPU, and torch sees none")
    major, minor = torch.cuda.get_device_capability(device)
    return EngineTarget(
        library=library,
        version=str(import_library(library).__version__),
        gpu=torch.cuda.get_device_name(device),
        compute_capability=f"SM{major}{minor}",
    )
