"""A clip vector and an edit text to a query vector: text encoder and fusion.

Read in this order: factors, numbers, config, text_backbones, token_reader, text_encoder, combiner, factored, fusion, composition, released_weights.
"""

__all__ = [
    "combiner",
    "composition",
    "config",
    "factored",
    "factors",
    "fusion",
    "numbers",
    "released_weights",
    "text_backbones",
    "text_encoder",
    "token_reader",
]
