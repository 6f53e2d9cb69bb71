"""An archive into Milvus: plan, fetch, decode, embed, write, verify.

Read in this order: config, workers, shards, decode_stage, write_stage, stages, stream,
recompute, index_archive, dry_run, throughput, verify.
"""

__all__ = [
    "config",
    "decode_stage",
    "dry_run",
    "index_archive",
    "shards",
    "stages",
    "verify",
    "write_stage",
]
