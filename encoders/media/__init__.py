"""Media files before any frame is decoded: containers, limits, frame index, sampling.

Read in this order: errors, container, bitstream, frame_index, sampling.
"""

__all__ = ["bitstream", "container", "errors", "frame_index", "sampling"]
