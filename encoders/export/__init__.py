"""A trained bundle to ONNX graphs, TensorRT engines and torch.compile, with the drift of each measured.

Read in this order: config, onnx_export, precision, tensorrt_export, compiled_export, engine_files, parity, drift_probe, drift.
"""

__all__ = [
    "compiled_export",
    "config",
    "drift",
    "drift_probe",
    "onnx_export",
    "parity",
    "tensorrt_export",
]
