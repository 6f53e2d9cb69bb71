"""A new encoder for an archive in use: which of two collections answers better, and one answer of both until the new one is whole.

Read in this order: compare_collections, two_generations.
"""

__all__ = ["compare_collections", "two_generations"]
