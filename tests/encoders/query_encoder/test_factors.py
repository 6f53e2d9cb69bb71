"""Factors from attributes: number lines with their steps, missing values, and what a card keeps."""

from fractions import Fraction

import numpy as np
import pytest

from encoders.query_encoder.factors import (
    Factor,
    factor_codes,
    factors_from_list,
    factors_to_list,
    find_factors,
    parse_number,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2.5", Fraction(5, 2)), ("3", Fraction(3)), ("0", Fraction(0)), ("-1", None), ("1/2", None),
     ("pike", None), ("", None), (".5", None), ("1e3", None), ("\N{SUPERSCRIPT TWO}", None)],
)  # fmt: skip
def test_only_plain_decimals_are_numbers(text, number):
    assert parse_number(text) == number


def test_a_number_line_has_the_values_between_and_beyond_those_of_the_labels():
    (twists,) = find_factors([{"twists": v, "kind": "dive"} for v in ("0", "1.5", "2.5", "3")])
    assert twists.name == "twists"
    assert twists.is_ordered
    assert twists.values == tuple(f"{n / 2:g}" for n in range(11))
    assert twists.slot("2.50") == 5
    assert twists.slot("7") == -1
    assert twists.slot(None) == -1


def test_values_without_a_short_common_step_are_slots_in_order():
    (factor,) = find_factors([{"weight": v} for v in ("1000", "1", "0.001")])
    assert factor.values == ("0.001", "1", "1000")


def test_an_attribute_that_some_labels_lack_has_a_slot_for_that():
    labels = [{"twists": "1", "position": "pike"}, {"twists": "2"}, {}]
    position, twists = find_factors(labels)
    assert position.values == ("pike", "")
    assert position.slot(None) == 1
    assert position.slot("tuck") == -1
    assert not twists.is_optional


def test_one_value_for_all_is_no_factor():
    assert find_factors([{"board": "3m"}, {"board": "3m"}]) == ()
    assert find_factors([{}, {}]) == ()


def test_mixed_values_are_not_a_number_line():
    (factor,) = find_factors([{"turns": "1"}, {"turns": "1 or more"}, {"turns": "0.5"}])
    assert not factor.is_ordered
    assert set(factor.values) == {"1", "1 or more", "0.5"}


def test_the_card_round_trip_refuses_what_is_wrong():
    factors = find_factors([{"a": "x", "n": "1"}, {"a": "y", "n": "2.5"}, {"a": "y"}])
    assert factors_from_list(factors_to_list(factors)) == factors
    with pytest.raises(ValueError, match="colour"):
        factors_from_list([{"name": "a", "values": ["x", "y"], "colour": 1}])
    with pytest.raises(ValueError, match="at least 2"):
        factors_from_list([{"name": "a", "values": ["x"]}])
    with pytest.raises(ValueError, match="ascending"):
        Factor(name="a", values=("2", "1"), is_ordered=True)


@pytest.mark.parametrize("num_values", [2, 8, 40])
def test_numbers_lie_evenly_on_an_arc_whose_ends_do_not_meet(num_values):
    values = tuple(str(n) for n in range(num_values))
    codes = factor_codes(Factor(name="twists", values=(*values, ""), is_ordered=True))
    line, absent = codes[:-1, :2], codes[-1]
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    assert np.linalg.norm(line[0] - line[-1]) > 0.6
    assert absent.tolist() == [0, 0, 1]


def test_other_values_have_columns_of_their_own():
    codes = factor_codes(Factor(name="position", values=("pike", "tuck", "")))
    np.testing.assert_array_equal(codes, np.eye(3))
