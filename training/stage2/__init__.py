"""Stage 2: contrastive alignment of (clip, edit text) with target clips (TF-CoVR, section 4).

Read in this order: text_table, task, train.
"""

__all__ = ["task", "text_table", "train"]
