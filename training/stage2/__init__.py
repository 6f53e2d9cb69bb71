"""Stage 2: contrastive alignment of (clip, edit text) with target clips (TF-CoVR, section 4).

Read in this order: text_table, composer, factors, factored, task, calibrate, train.
"""

__all__ = ["calibrate", "composer", "factors", "task", "text_table", "train"]
