"""Spans of a video to frames: a request, one of two backends, and a sandbox around native code.

Read in this order: request, frames, decode, pyav_video, dali_video, assemble, device, sandbox, sandbox_worker,
isolated, trim.
"""

__all__ = ["decode", "device", "isolated", "request", "sandbox", "trim"]
