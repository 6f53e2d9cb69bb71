"""The training loop of both stages and its launch on Ray Train; only ray_launch imports Ray.

Read in this order: run_folder, optimizer, activation_checkpointing, checkpoint, loop, curves, ray_launch,
session.
"""

__all__ = ["activation_checkpointing", "loop", "optimizer", "run_folder", "session"]
