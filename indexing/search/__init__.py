"""Composed queries over a collection: compose, filter, rank, and say when nothing matches.

Read in this order: types, filters, query_encoder, composition, attributes, ranking, collection_snapshot,
confidence, clip_cache, client, film_strip, compare_collections.
"""

__all__ = [
    "client",
    "collection_snapshot",
    "compare_collections",
    "film_strip",
    "filters",
    "types",
]
