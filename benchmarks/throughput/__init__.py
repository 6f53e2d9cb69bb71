"""Rates as a fraction of a measured limit: encoder, training, decoding, indexing.

Read in this order: encode, data_wait, training, decode_peers, decode, end_to_end, overlap, growth, index, build.
"""

__all__ = ["end_to_end"]
