"""Routes beside searching, and the state that all routes share.

Read in this order: clips, page, labels.
"""

__all__ = ["clips", "labels", "page"]
