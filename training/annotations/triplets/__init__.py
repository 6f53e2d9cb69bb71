"""Labelled clips to triplets: pairs, edit texts from templates or an LLM, free texts with their truth, the gallery.

Read in this order: table, templates, phrase_bank, free_texts, sentence_check, llm, gallery, build.
"""

__all__ = ["build", "free_texts", "gallery", "llm", "table"]
