"""Free texts against independent readings of a few of them, and their truths."""

import random

import numpy as np
import pytest

from encoders.query_encoder.factors import find_factors
from training.annotations.triplets.free_texts import (
    FreeText,
    Operation,
    draw_operation,
    free_texts,
    opposites,
    with_typo,
)
from training.annotations.triplets.phrase_bank import FRAMES, PHRASES, SYNONYMS

LABELS = [
    {"twists": "0", "position": "pike", "take_off": "forward", "armstand": "no"},
    {"twists": "1.5", "position": "tuck", "take_off": "back", "armstand": "yes"},
    {"twists": "2", "position": "free", "take_off": "back", "armstand": "no"},
]
FACTORS = find_factors(LABELS)
BY_NAME = {factor.name: factor for factor in FACTORS}


def after(operation: Operation, value: str) -> set[str]:
    row = operation.truth_KK[operation.factor.slot(value)]
    return {v for v, share in zip(operation.factor.values, row, strict=True) if share > 0}


def test_truths_of_operations():
    twists, position = BY_NAME["twists"], BY_NAME["position"]
    assert after(Operation(factor=twists, kind="set_number", value="3.5"), "0") == {"3.5"}
    assert after(Operation(factor=twists, kind="more", value="1"), "2") == {"2.5"}
    assert after(Operation(factor=twists, kind="fewer", value="3"), "2") == {"0.5"}
    assert after(Operation(factor=twists, kind="fewer", value="3"), "1") == {"0"}
    no_pike = Operation(factor=position, kind="not_value", value="pike")
    assert after(no_pike, "pike") == {"tuck", "free"}
    assert after(no_pike, "free") == {"free"}
    swap = Operation(factor=position, kind="swap", value="pike", other="tuck")
    assert [after(swap, v) for v in ("pike", "tuck", "free")] == [{"tuck"}, {"pike"}, {"free"}]
    opposite = Operation(factor=BY_NAME["take_off"], kind="opposite")
    assert after(opposite, "back") == {"forward"}
    assert opposites(position) == ()


@pytest.mark.parametrize("bank", ["shown", "val", "held_out"])
def test_texts_are_distinct_repeatable_and_have_stochastic_truths(bank):
    texts = free_texts(FACTORS, num_texts=400, seed=3, bank=bank)
    assert len({text.text for text in texts}) == len(texts) == 400
    assert [t.text for t in texts] == [
        t.text for t in free_texts(FACTORS, num_texts=400, seed=3, bank=bank)
    ]
    for text in texts:
        assert "{" not in text.text
        for truth_KK in text.truths(FACTORS):
            np.testing.assert_allclose(truth_KK.sum(axis=1), 1, rtol=1e-6)


def test_no_factor_no_text():
    assert free_texts((), num_texts=10, seed=0) == []


def test_a_text_leaves_other_factors_alone():
    one = FreeText(
        text="x", operations=(Operation(factor=BY_NAME["twists"], kind="set_number", value="1"),)
    )
    for factor, truth_KK in zip(FACTORS, one.truths(FACTORS), strict=True):
        is_identity = np.array_equal(truth_KK, np.eye(len(factor.values)))
        assert is_identity == (factor.name != "twists")


def test_every_number_in_a_plain_text_is_the_operations():
    rng = random.Random(0)
    for _ in range(50):
        operation = draw_operation(BY_NAME["twists"], rng, kind="set_number")
        assert float(operation.value) > 0
        assert after(operation, "0") == {operation.value}


def test_banks_have_nothing_in_common():
    for kind, phrases in (*PHRASES.items(), ("frames", FRAMES), *SYNONYMS.items()):
        banks = [set(phrases.shown), set(phrases.val), set(phrases.held_out)]
        assert sum(map(len, banks)) == len(set.union(*banks)), kind


def test_a_typo_changes_one_word_and_no_digit():
    rng = random.Random(1)
    text = "with 2.5 twists and somersaults"
    for _ in range(50):
        changed = with_typo(text, rng)
        assert "2.5" in changed
        assert sum(a != b for a, b in zip(text.split(), changed.split(), strict=True)) <= 1
