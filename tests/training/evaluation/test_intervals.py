import numpy as np
import pytest

from training.evaluation.intervals import interval, resampled_means


def test_clusters_of_one_give_the_standard_error_of_the_mean():
    rng = np.random.default_rng(0)
    values = rng.random((400, 2))
    means = resampled_means(values, [range(400)], num_resamples=4000, seed=1)
    expected = values.std(axis=0) / np.sqrt(400)
    assert means.std(axis=0) == pytest.approx(expected, rel=0.05)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=3e-3)


def test_copies_of_a_query_add_no_certainty():
    rng = np.random.default_rng(1)
    values = rng.random((50, 1))
    copies = np.repeat(values, 8, axis=0)
    once = resampled_means(values, [range(50)], num_resamples=4000, seed=0)
    often = resampled_means(copies, [np.repeat(range(50), 8)], num_resamples=4000, seed=0)
    assert often == pytest.approx(once)


def test_two_crossed_clusters_cover_both_variances():
    """Owen 2007: for a balanced table the variance is that of rows plus that of columns (and more)."""
    rng = np.random.default_rng(2)
    rows, columns = rng.normal(size=(30, 1)), rng.normal(size=(1, 40))
    values = (rows + columns).reshape(-1, 1)
    row_ids, column_ids = np.indices((30, 40)).reshape(2, -1)
    both = resampled_means(values, [row_ids, column_ids], num_resamples=4000, seed=0)
    expected = rows.var() / 30 + columns.var() / 40
    assert both.var() == pytest.approx(expected, rel=0.1)
    by_column = resampled_means(values, [column_ids], num_resamples=4000, seed=0)
    assert by_column.var() == pytest.approx(columns.var() / 40, rel=0.1)


def test_columns_are_resampled_together():
    values = np.random.default_rng(3).random((60, 1))
    means = resampled_means(
        np.hstack([values, values + 0.25]), [range(60)], num_resamples=50, seed=0
    )
    assert means[:, 1] - means[:, 0] == pytest.approx(0.25)


def test_an_interval_covers_its_share_of_the_draws():
    draws = np.arange(1001.0)
    bounds = interval(7.0, draws, level=0.9)
    assert (bounds.value, bounds.low, bounds.high) == pytest.approx((7.0, 50.0, 950.0))
    with_gaps = np.concatenate([draws, [np.nan, np.inf]])
    assert interval(7.0, with_gaps, level=0.9) == bounds
    assert np.isnan(interval(7.0, np.array([np.nan]), level=0.9).low)
