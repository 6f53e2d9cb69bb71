"""Spans of a video to frames: a request, one of two backends, and a sandbox around native code.

Read in this order: request, decode, pyav_video, dali_video, pixels, bicubic, assemble, device, sandbox, sandbox_worker,
isolated, trim.
"""

__all__ = ["decode", "device", "isolated", "pixels", "request", "sandbox", "trim"]
