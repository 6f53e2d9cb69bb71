"""The Milvus collection: schema, rows, writes, index, aliases. The only sub-package that imports pymilvus.

Read in this order: client, endpoint, lease, schema, filter_expression, rows, collection, vector_index, bulk_import, aliases,
transfer, dev_server.
"""

import os

# While it is imported pymilvus reads these, from a file .env too, and fails for a folder. Every connection of ours is to the URI
# that it is given.
os.environ |= {
    "MILVUS_URI": "",
    "MILVUS_DEFAULT_CONNECTION": "",
    "MILVUS_CONN_ALIAS": "default",
    "MILVUS_CONN_TIMEOUT": "10.0",
}

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
