"""Dive numbers against hand-read ones, and text that is not a dive number."""

import pytest

from training.annotations.labels.dive_numbers import DIVE_CLASSES, parse_dive_number

# Read by hand from the FINA table: take-off, somersaults, twists, position, armstand.
BY_HAND = {
    "101b": ("forward", "0.5", "0", "pike", "no"),
    "1011b": ("forward", "5.5", "0", "pike", "no"),
    "207c": ("back", "3.5", "0", "tuck", "no"),
    "303c": ("reverse", "1.5", "0", "tuck", "no"),
    "409C": ("inward", "4.5", "0", "tuck", "no"),
    "5253b": ("back", "2.5", "1.5", "pike", "no"),
    "5132d": ("forward", "1.5", "1", "free", "no"),
    "5337d": ("reverse", "1.5", "3.5", "free", "no"),
    "626c": ("back", "3", "0", "tuck", "yes"),
    "6243d": ("back", "2", "1.5", "free", "yes"),
    "6142d": ("forward", "2", "1", "free", "yes"),
}


@pytest.mark.parametrize(("code", "expected"), BY_HAND.items())
def test_a_number_says_what_the_table_says(code: str, expected: tuple[str, ...]) -> None:
    names = ("take_off", "somersaults", "twists", "position", "armstand")
    assert parse_dive_number(code).attributes == dict(zip(names, expected, strict=True))


def test_all_47_released_classes_parse_to_different_dives() -> None:
    assert len(DIVE_CLASSES) == 47
    meanings = {tuple(parse_dive_number(code).attributes.items()) for code in DIVE_CLASSES}
    assert len(meanings) == 47


def test_the_flying_digit_is_read() -> None:
    assert parse_dive_number("113b").flying
    assert not parse_dive_number("103b").flying


@pytest.mark.parametrize(
    "code", ["", "b", "107", "107e", "807b", "127b", "100b", "5503b", "52b", "645b", "103d", "10a7b", "\uff1103b"]
)  # fmt: skip
def test_what_is_no_dive_number_is_refused_by_name(code: str) -> None:
    with pytest.raises(ValueError, match="is not a dive number"):
        parse_dive_number(code)
