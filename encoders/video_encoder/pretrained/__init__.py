"""Weights made elsewhere (CLIP, AIM, TF-CoVR checkpoints) to weights of these encoders.

Read in this order: checkpoint, huggingface, aim_weights, head.
"""

__all__ = ["aim_weights", "checkpoint", "head", "huggingface"]
