"""The Milvus collection: schema, rows, writes, index, aliases. The only sub-package that imports pymilvus.

Read in this order: client, endpoint, schema, filter_expression, rows, collection, vector_index, datasink, bulk_import,
aliases, copy_collection, dev_server.
"""

__all__ = [
    "aliases",
    "bulk_import",
    "client",
    "collection",
    "copy_collection",
    "dev_server",
    "endpoint",
    "filter_expression",
    "rows",
    "schema",
    "vector_index",
]
