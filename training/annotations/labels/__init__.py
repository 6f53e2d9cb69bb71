"""Label grammars: names, dive numbers and gym names to attributes, pairs of labels, and train, val and test.

Read in this order: names, dive_numbers, gym_names, pairs, splits.
"""

__all__ = ["dive_numbers", "gym_names", "names", "pairs", "splits"]
