"""Clips with labels to triplets: label grammars, edit texts, the triplet builder, tables in and out.

Read in this order: labels, readers, triplets, embeddings.
"""
