"""Released embeddings (pickles) to tables of vectors; nothing in them is executed.

Read in this order: pickled_tensors, pickle_reader, import_embeddings.
"""

__all__ = ["import_embeddings", "pickle_reader"]
