"""Stage 1: fine-grained action classification trains the video encoder (TF-CoVR, section 4).

Read in this order: augment, frame_cache, frame_vectors, data, task, train, dry_run, moment_settings, moments.
"""

__all__ = ["dry_run", "frame_vectors", "moment_settings", "moments", "task", "train"]
