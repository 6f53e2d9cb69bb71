import random
import re
from fractions import Fraction

import pytest

from training.annotations.labels.pairs import AttributeChange, LabelPair
from training.annotations.triplets.templates import (
    absolute_phrases,
    edit_text,
    number_words,
    relative_phrases,
)

_VALUES = [f"{half / 2:g}" for half in range(15)]
_SPOKEN = {
    "half": 0.5, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
}  # fmt: skip


def said_number(phrase: str) -> float:
    """Independent reading of a phrase: its number in digits or words; no number means zero."""
    if digits := re.findall(r"\d+(?:\.\d+)?", phrase):
        assert len(digits) == 1
        return float(digits[0])
    words = re.findall(r"[a-z]+", phrase)
    total = sum(_SPOKEN[word] for word in words if word in _SPOKEN)
    assert total or "no" in words or "without" in words
    return total


def change(name: str, source: str, target: str) -> AttributeChange:
    return AttributeChange(name=name, source=source, target=target)


@pytest.mark.parametrize("name", ["twists", "somersaults", "num_turns", "turn"])
def test_every_absolute_number_phrase_says_the_new_value(name):
    for target in _VALUES:
        for phrase in absolute_phrases(change(name, "9", target)):
            assert said_number(phrase) == float(target), phrase


@pytest.mark.parametrize("name", ["twists", "somersaults", "armswings"])
def test_every_relative_phrase_says_the_step_and_its_direction(name):
    for source in _VALUES:
        for target in _VALUES:
            phrases = relative_phrases(change(name, source, target))
            assert bool(phrases) == (source != target)
            for phrase in phrases:
                assert said_number(phrase) == abs(float(target) - float(source)), phrase
                assert ("more" in phrase) == (float(target) > float(source)), phrase
                assert ("less" in phrase or "fewer" in phrase) != ("more" in phrase), phrase


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("position", "pike", "tuck"), ("take_off", "forward", "back"), ("take_off", "inward", "reverse")],
)  # fmt: skip
def test_a_swap_has_the_same_phrases_in_both_directions(name, first, second):
    there = relative_phrases(change(name, first, second))
    assert there
    assert there == relative_phrases(change(name, second, first))
    assert not set(there) & {*absolute_phrases(change(name, first, second))}


def test_a_change_that_is_no_swap_has_no_relative_phrase():
    assert relative_phrases(change("take_off", "forward", "reverse")) == ()
    assert relative_phrases(change("position", "pike", "straight")) == ()


def test_numbers_in_words():
    assert [number_words(Fraction(n, 2)) for n in (1, 2, 5, 7)] == [
        "half", "one", "two and a half", "three and a half",
    ]  # fmt: skip
    assert number_words(Fraction(1, 3)) is None
    assert number_words(Fraction(99)) is None


def test_words_of_unknown_attributes_name_the_attribute_and_the_new_value():
    for phrase in absolute_phrases(change("apparatus", "floor", "balance_beam")):
        assert "apparatus" in phrase
        assert "balance beam" in phrase
        assert "floor" not in phrase
    assert absolute_phrases(change("hand_support", "no", "yes")) == ("with hand support",)
    assert all("hand support" in p and ("no" in p or "without" in p)
               for p in absolute_phrases(change("hand_support", "yes", "no")))  # fmt: skip


def test_known_phrases_tell_values_of_one_attribute_apart():
    for name, values in {
        "take_off": ("forward", "back", "reverse", "inward"),
        "position": ("straight", "pike", "tuck", "free"),
        "armstand": ("yes", "no"),
    }.items():
        phrases = [set(absolute_phrases(change(name, "?", value))) for value in values]
        assert sum(map(len, phrases)) == len(set().union(*phrases)) >= 2 * len(values)


def test_a_text_says_all_changes_and_choices_vary_it():
    pair = LabelPair(
        source_label="105b",
        target_label="5154c",
        changes=(change("position", "pike", "tuck"), change("twists", "0", "2")),
    )
    rng = random.Random(0)
    choices = [rng.getrandbits(64) for _ in range(300)]
    texts = [edit_text(pair, choice=choice, relative_share=0.5) for choice in choices]
    assert all("tuck" in text and re.search(r"\b(2|two)\b", text) for text in texts)
    assert len(set(texts)) > 100
    assert {"more" in text for text in texts} == {True, False}
    assert texts == [edit_text(pair, choice=choice, relative_share=0.5) for choice in choices]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_relative_share_is_kept(share):
    pair = LabelPair(source_label="a", target_label="b", changes=(change("twists", "0.5", "2.5"),))
    rng = random.Random(1)
    texts = [edit_text(pair, choice=rng.getrandbits(64), relative_share=share) for _ in range(2000)]
    relative = sum("more" in text for text in texts) / len(texts)
    assert relative == pytest.approx(share, abs=0.0 if share in (0, 1) else 0.04)
