"""An archive into Milvus: plan, fetch, decode, embed, write, verify.

Read in this order: config, workers, shards, fetch_stage, decode_stage, write_stage, stages, stream,
recompute, index_archive, throughput, verify.
"""

__all__ = [
    "config",
    "decode_stage",
    "index_archive",
    "shards",
    "stages",
    "verify",
    "write_stage",
]
