"""Spans of a video to frames: a request, one of the backends, and a sandbox around native code.

Read in this order: frames, backends, request, decode, pyav_video, nvidia, assemble, device, sandbox, isolated, trim,
source.
"""

__all__ = ["backends", "decode", "device", "isolated", "request", "source", "trim"]
