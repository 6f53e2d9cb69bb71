"""Numbers as words and as counts, against tables written by hand and against every way in which edits are said here."""

from fractions import Fraction

import pytest

from encoders.query_encoder.numbers import count_codes, normalize_as_released, normalize_text
from training.annotations.labels.pairs import AttributeChange
from training.annotations.triplets.templates import absolute_phrases, relative_phrases

ABSOLUTE, MORE, LESS = 0, 1, 2
TWISTS, SOMERSAULTS, TURNS, OTHERS = range(4)


def code(value, sense=ABSOLUTE):
    return 1 + 16 * sense + int(value * 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("with 2.5 twists", "with two and a half twists"),
        ("Show 1 turn, then 0.5.", "show one turn, then half."),
        ("with 7.0 turns and 10 saltos", "with seven turns and ten saltos"),
        ("dive 5253B at 1.25 m", "dive 5253b at 1.25 m"),
        ("42 and 20.5", "forty two and twenty and a half"),
    ],
)
def test_numbers_become_words(text, expected):
    assert normalize_text(text) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        *(("0.5", "half"), ("1", "one"), ("1.0", "one"), ("1.5", "one and a half"), ("2", "two")),
        *(("2.5", "two and a half"), ("3", "three"), ("3.5", "three and a half"), ("4", "four")),
        *(("4.5", "four and a half"), ("5", "five"), ("5.50", "five and a half"), ("6", "six")),
        *(("6.5", "six and a half"), ("7.0", "seven"), ("7.5", "7.5"), ("0", "0"), ("10", "10")),
        *(("1.25", "1.25"), ("5253b", "5253b"), ("9" * 5000, "9" * 5000)),
    ],
)
def test_the_released_code_speaks_the_halves_from_one_half_to_seven(number, expected):
    assert normalize_as_released(f'Show: "{number}" Twists!') == f"show {expected} twists"


@pytest.mark.parametrize("normalize", [normalize_text, normalize_as_released])
def test_long_texts_lose_their_end(normalize):
    assert normalize("a " * 50) == " ".join(["a"] * 30)
    assert normalize("2.5 " * 50, max_words=5) == "two and a half two"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("with 2.5 twists", {TWISTS: code(2.5)}),
        ("with two and a half twists in pike", {TWISTS: code(2.5)}),
        (
            "show 3 SOMERSAULTS and one twist, tucked.",
            {SOMERSAULTS: code(3), TWISTS: code(1)},
        ),
        ("a double salto with a half turn", {SOMERSAULTS: code(2), TURNS: code(0.5)}),
        ("without twists", {TWISTS: code(0)}),
        ("no somersaults but another twist", {SOMERSAULTS: code(0), TWISTS: code(1, MORE)}),
        ("one and a half backward somersaults less", {SOMERSAULTS: code(1.5, LESS)}),
        ("2 extra leaps", {OTHERS: code(2, MORE)}),
        ("3 leaps", {OTHERS: code(3)}),
        ("9 twists", {TWISTS: code(7.5)}),
        ("not 2 but 3 twists", {TWISTS: code(3)}),
        ("from a back take-off, without the armstand, in the other one of both", {}),
        ("5253b at 1.25 m or 2.5m", {}),
        ("", {}),
        ("9" * 5000, {}),
    ],
)
def test_counts_are_read_in_digits_and_words(text, expected):
    assert count_codes(text) == [expected.get(kind, 0) for kind in range(4)]


@pytest.mark.parametrize("name", ["twists", "somersaults", "turns"])
def test_every_way_to_say_a_count_here_is_read(name):
    kind = {"twists": TWISTS, "somersaults": SOMERSAULTS, "turns": TURNS}[name]
    values = [Fraction(n, 2) for n in range(15)]
    for target in values:
        for source in values:
            change = AttributeChange(
                name=name, source=f"{float(source):g}", target=f"{float(target):g}"
            )
            for phrase in absolute_phrases(change):
                assert count_codes(f"the same {phrase} and in tuck")[kind] == code(target), phrase
            for phrase in relative_phrases(change):
                sense = MORE if target > source else LESS
                wanted = code(abs(target - source), sense)
                assert count_codes(f"{phrase}, in tuck")[kind] == wanted, phrase
