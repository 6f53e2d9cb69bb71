"""Label grammars: names, dive numbers and gym names to attributes, and pairs of labels.

Read in this order: names, dive_numbers, gym_names, pairs.
"""

__all__ = ["dive_numbers", "gym_names", "names", "pairs"]
