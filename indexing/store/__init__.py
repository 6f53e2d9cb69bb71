"""The Milvus collection: schema, rows, writes, index, aliases. The only sub-package that imports pymilvus.

Read in this order: client, endpoint, lease, schema, filter_expression, rows, collection, vector_index, bulk_import, aliases,
transfer, dev_server.
"""

__all__ = [
    "aliases",
    "bulk_import",
    "client",
    "collection",
    "dev_server",
    "endpoint",
    "filter_expression",
    "lease",
    "rows",
    "schema",
    "transfer",
    "vector_index",
]
