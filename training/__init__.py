"""Annotations to a trained bundle to mAP: readers, triplets, losses, both stages, evaluation."""
