"""Where work runs: Ray, storage, retry, and what this machine has. Knows no model, video or Milvus.

Read in this order: machine, network, storage, retry, processes, progress, ray_session, dataflow.
"""

__all__ = [
    "dataflow",
    "machine",
    "network",
    "processes",
    "progress",
    "ray_session",
    "retry",
    "storage",
]
