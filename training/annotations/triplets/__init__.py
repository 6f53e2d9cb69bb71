"""Labelled clips to triplets: pairs, edit texts from templates or an LLM, the gallery.

Read in this order: table, templates, sentence_check, llm, gallery, build.
"""

__all__ = ["build", "gallery", "llm", "table"]
