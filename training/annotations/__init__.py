"""Clips with labels to triplets: label grammars, edit texts, the triplet builder."""
