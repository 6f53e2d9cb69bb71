"""Decoded frames to RGB arrays of the wanted size.

Read in this order: pixels, converter, bicubic.
"""

__all__ = ["bicubic", "converter", "pixels"]
