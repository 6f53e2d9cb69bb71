"""A clip vector and an edit text to a query vector: text encoder and fusion.

Read in this order: config, numbers, text_backbones, text_encoder, fusion.
"""

__all__ = ["config", "fusion", "numbers", "text_backbones", "text_encoder"]
