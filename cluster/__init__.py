"""Infrastructure: Ray, storage, repetition, processes and the hardware of this machine; independent of models, video and Milvus.

Read in this order: machine, network, storage, option_checks, repetition, processes, progress, telemetry, tables, ray_watch, ray_session, dataflow.
"""

__all__ = [
    "dataflow",
    "machine",
    "network",
    "option_checks",
    "processes",
    "progress",
    "ray_session",
    "ray_watch",
    "repetition",
    "storage",
    "tables",
    "telemetry",
]
