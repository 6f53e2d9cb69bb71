"""Where videos come from: URIs without secrets, remote reads, listing, content hashes, a local cache.

Read in this order: uris, s3_listing, remote, archive, changes, content, fingerprint, fetch_cache, fetch_stage, watching,
asked_counts.
"""

__all__ = [
    "archive",
    "asked_counts",
    "changes",
    "content",
    "fetch_cache",
    "fetch_stage",
    "fingerprint",
    "remote",
    "uris",
    "watching",
]
