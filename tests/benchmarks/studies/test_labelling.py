import numpy as np
import pytest

from benchmarks.studies.labelling.clips import LabelledVectors
from benchmarks.studies.labelling.run import Config, measure_splits
from training.annotations.labels.dive_numbers import DIVE_CLASSES


def test_chance_needs_more_labels_where_classes_are_groups_of_vectors(tmp_path) -> None:
    """Vectors of an encoder that tells the classes apart: a label of each class is enough, and asking finds one sooner than chance."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(DIVE_CLASSES), 24))

    def draw(count: int) -> LabelledVectors:
        classes_N = np.tile(np.arange(len(DIVE_CLASSES)), count)
        noise = 0.05 * rng.normal(size=(len(classes_N), 24))
        return LabelledVectors(vectors_ND=centres[classes_N] + noise, classes_N=classes_N)

    splits = {"train": draw(10), "val": draw(2), "test": draw(3)}
    config = Config(bundle=tmp_path, out=tmp_path, seeds=(1,), num_queries=40, batch=24)
    figures = measure_splits(config, splits)
    assert figures["full_map50"] == pytest.approx(1.0)
    assert figures["label_share_for_90"] < 0.2
    assert figures["random_over_active"] > 1.3
    assert 0 <= figures["noise_loss_points"] < 40
