"""Decoded frames to RGB arrays of the wanted size.

Read in this order: pixels, color, converter, bicubic.
"""

__all__ = ["bicubic", "color", "converter", "pixels"]
