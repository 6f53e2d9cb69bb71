"""Composed queries over a collection: compose, filter, rank, and say when nothing matches.

Read in this order: types, filters, query_encoder, composition, attributes, ranking, collection_snapshot,
confidence, clip_cache, client, film_strip, migration.
"""

__all__ = [
    "client",
    "collection_snapshot",
    "film_strip",
    "filters",
    "migration",
    "types",
]
