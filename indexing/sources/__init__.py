"""Where videos come from: URIs without secrets, remote reads, listing, content hashes, a local cache.

Read in this order: uris, s3_listing, remote, archive, changes, content, fingerprint, fetch_cache, fetch_stage, watching.
"""

__all__ = [
    "archive",
    "changes",
    "content",
    "fetch_cache",
    "fetch_stage",
    "fingerprint",
    "remote",
    "uris",
    "watching",
]
