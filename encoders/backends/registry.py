"""Opens an encoder backend of a bundle by its kind; the one table of backends."""

from collections.abc import Callable
from pathlib import Path

from encoders.backends.base import BackendKind, BackendSettings, EncoderBackend
from encoders.bundle.card import read_card


def open_backend(
    bundle_dir: str | Path,
    kind: str,
    *,
    device: str = "cpu",
    num_threads: int | None = None,
) -> EncoderBackend:
    """Load a bundle into a backend. There is no silent fallback: what can't run on the device raises.

    `auto` takes what `choose_backend` says; the backend's `kind` tells which it was.
    """
    if kind == "auto":
        kind = choose_backend(bundle_dir, device=device)
    if kind not in _OPENERS:
        raise ValueError(f"backend {kind!r} is unknown; choose one of {sorted(_OPENERS)}")
    settings = BackendSettings(bundle_dir=Path(bundle_dir), device=device, num_threads=num_threads)
    return _OPENERS[kind](settings)


def choose_backend(bundle_dir: str | Path, *, device: str) -> BackendKind:
    """`tensorrt` on a GPU that one of the bundle's engines was built and measured for, else `compiled` on one that its drift was
    measured on, else `onnx`.
    """
    card = read_card(bundle_dir)
    if device == "cpu" or not card.engines:
        return "onnx"
    from encoders.backends.compiled_backend import has_compiled
    from encoders.backends.tensorrt_backend import has_engine

    if has_engine(card, device=device):
        return "tensorrt"
    return "compiled" if has_compiled(card, device=device) else "onnx"


def _open_torch(settings: BackendSettings) -> EncoderBackend:
    from encoders.backends.torch_backend import TorchBackend

    return TorchBackend(settings)


def _open_compiled(settings: BackendSettings) -> EncoderBackend:
    from encoders.backends.compiled_backend import CompiledBackend

    return CompiledBackend(settings)


def _open_onnx(settings: BackendSettings) -> EncoderBackend:
    from encoders.backends.onnx_backend import OnnxBackend

    return OnnxBackend(settings)


def _open_tensorrt(settings: BackendSettings) -> EncoderBackend:
    from encoders.backends.tensorrt_backend import TensorrtBackend

    return TensorrtBackend(settings)


_OPENERS: dict[str, Callable[[BackendSettings], EncoderBackend]] = {
    "torch": _open_torch,
    "compiled": _open_compiled,
    "onnx": _open_onnx,
    "tensorrt": _open_tensorrt,
}
