"""A trained bundle to ONNX graphs and TensorRT engines, with the drift of each measured.

Read in this order: config, onnx_export, precision, tensorrt_export, parity, drift_probe, drift.
"""

__all__ = ["config", "drift", "drift_probe", "onnx_export", "parity", "tensorrt_export"]
