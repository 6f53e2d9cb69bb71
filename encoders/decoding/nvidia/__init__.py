"""Decoding on an NVIDIA GPU: which videos it may decode, whether its frames can be believed, and the libraries that reach it.

Read in this order: nvdec_limits, trust, hardware_video, dali_video, pynv_video, resize.
"""

__all__ = ["dali_video", "nvdec_limits", "pynv_video", "resize"]
