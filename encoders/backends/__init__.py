"""Backends that run an encoder (torch, torch.compile, ONNX Runtime, TensorRT) behind one interface.

Read in this order: base, registry, torch_backend, compiled_backend, onnx_backend, tensorrt_backend, tensorrt_library.
"""

__all__ = [
    "base",
    "compiled_backend",
    "factor_graph",
    "onnx_backend",
    "registry",
    "tensorrt_backend",
    "tensorrt_library",
    "torch_backend",
]
