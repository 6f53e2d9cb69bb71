"""Infrastructure: Ray, storage, retry, processes and the hardware of this machine; independent of models, video and Milvus.

Read in this order: machine, network, storage, retry, periodic, processes, progress, telemetry, tables, ray_watch, ray_session, dataflow.
"""

__all__ = [
    "dataflow",
    "machine",
    "network",
    "periodic",
    "processes",
    "progress",
    "ray_session",
    "ray_watch",
    "retry",
    "storage",
    "tables",
    "telemetry",
]
