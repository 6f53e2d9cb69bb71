"""Decoding and embedding as stages over batches of clip rows; a failed clip becomes a row with an error.

Read in this order: base, decode_stage, embed_stage, encode_request, overlap, decode_embed_worker, decode_embed_stage.
"""

__all__ = [
    "base",
    "decode_embed_stage",
    "decode_embed_worker",
    "decode_stage",
    "embed_stage",
    "encode_request",
    "overlap",
]
