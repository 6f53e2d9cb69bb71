"""Media files before any frame is decoded: containers, limits, packets, frame index, sampling.

Read in this order: errors, container, bitstream, nal_headers, picture_headers, packet_table, frame_index, packets, sampling,
timecode, video_files.
"""

__all__ = [
    "bitstream",
    "container",
    "errors",
    "frame_index",
    "nal_headers",
    "packet_table",
    "packets",
    "picture_headers",
    "sampling",
    "timecode",
    "video_files",
]
