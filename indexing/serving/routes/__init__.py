"""Routes beside searching, and the state that all routes share.

Read in this order: clips, page.
"""

__all__ = ["clips", "page"]
