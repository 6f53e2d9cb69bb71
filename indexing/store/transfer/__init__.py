"""Rows from elsewhere into a collection: a Ray Data sink, copies of collections, and swaps of their index.

Read in this order: datasink, index_swap, copy_collection.
"""

__all__ = ["copy_collection", "datasink", "index_swap"]
