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


# As its runtime says where it refuses an engine (TensorRT for RTX 1.7); from Blackwell's consumer cards on, all.
_RTX_CAPABILITIES = ((8, 0), (8, 6), (8, 9))
_RTX_ALL_FROM = (12, 0)


def import_library(library: Library) -> Any:
    """The module; ImportError names the extra."""
    try:
        return importlib.import_module(MODULES[library])
    except ImportError as error:
        raise ImportError(
            f"{MODULES[library]!r} is needed here: {_INSTALL[library]} ({error})"
        ) from error


def local_target(library: Library, *, device: str = "cuda") -> EngineTarget:
    """What engines of this library run on here; ValueError without a GPU that it supports."""
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"{library} engines need a CUDA GPU, and torch sees none")
    major, minor = capability = torch.cuda.get_device_capability(device)
    if library == "tensorrt-rtx" and not runs_rtx(capability):
        raise ValueError(
            f"tensorrt-rtx engines do not run on {torch.cuda.get_device_name(device)} (SM{major}{minor}); they run on SM80, SM86, SM89 "
            "and SM120 or above: use tensorrt, or compiled"
        )
    return EngineTarget(
        library=library,
        version=str(import_library(library).__version__),
        gpu=torch.cuda.get_device_name(device),
        compute_capability=f"SM{major}{minor}",
    )


def runs_rtx(capability: tuple[int, int]) -> bool:
    """Whether TensorRT for RTX runs on GPUs of a compute capability: those with RT cores, and A100; not H100 or H200."""
    return capability in _RTX_CAPABILITIES or capability >= _RTX_ALL_FROM
