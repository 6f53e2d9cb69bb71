"""Factors: the attributes that an edit can change, with their values in slots; no torch here.

An ordered factor is a number line: its slots also hold values that no label has, so that edits can name and reach them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from encoders.files import read_value

ABSENT = ""
"""The last slot of a factor that some labels do not have."""

_STEPS_BEYOND = 4
_MAX_SLOTS = 48
_MAX_DIGITS = 12
_ARC_STEP = 0.8
_ARC = 5.6
"""In radians: the angle between neighbouring numbers, and the longest arc, so that the ends of a line do not meet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """One attribute and its slots."""

    name: str
    values: tuple[str, ...]
    """One slot per value, numbers in ascending order; ABSENT is the last one where some labels lack the attribute."""
    is_ordered: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name of a factor is ''; it must be a non-empty text")
        if len(set(self.values)) != len(self.values) or len(self.values) < 2:
            raise ValueError(
                f"values of factor {self.name!r} are {self.values}; they must be at least 2 different ones"
            )
        if ABSENT in self.values[:-1]:
            raise ValueError(f"values of factor {self.name!r} are {self.values}; '' must be last")
        if not self.is_ordered:
            return
        numbers = [parse_number(value) for value in self.present]
        if any(number is None for number in numbers) or numbers != sorted(numbers):  # type: ignore[type-var]
            raise ValueError(
                f"values of the ordered factor {self.name!r} are {self.values}; they must be ascending numbers"
            )

    @property
    def is_optional(self) -> bool:
        """Whether some labels do not have this attribute."""
        return self.values[-1] == ABSENT

    @property
    def present(self) -> tuple[str, ...]:
        """The values without ABSENT."""
        return self.values[:-1] if self.is_optional else self.values

    @property
    def step(self) -> Fraction | None:
        """The step of an even number line; slots at other distances have no common one, which "one more" would name."""
        numbers = [Fraction(value) for value in self.present] if self.is_ordered else []
        gaps = {high - low for low, high in pairwise(numbers)}
        return gaps.pop() if len(gaps) == 1 else None

    def slot(self, value: str | None) -> int:
        """The slot of a value (None = the attribute is missing), or -1 where the factor has no such slot."""
        if value is None:
            return len(self.values) - 1 if self.is_optional else -1
        if value in self.values:
            return self.values.index(value)
        number = parse_number(value) if self.is_ordered else None
        if number is None:
            return -1
        numbers = [parse_number(text) for text in self.present]
        return numbers.index(number) if number in numbers else -1


def parse_number(value: str) -> Fraction | None:
    """`"2.5"` -> 5/2; None if the text is not a plain non-negative decimal number of at most 12 digits."""
    whole, _, part = value.partition(".")
    digits = (whole + part).strip()
    if not (value.isascii() and digits.isdigit() and whole) or len(digits) > _MAX_DIGITS:
        return None
    return Fraction(value)


def find_factors(attributes: Iterable[Mapping[str, str]]) -> tuple[Factor, ...]:
    """The factors of labels with these attributes, sorted by name; an attribute with one value for all labels is none."""
    labels = [dict(values) for values in attributes if values]
    factors = []
    for name in sorted({name for values in labels for name in values}):
        present = {values[name] for values in labels if values.get(name)}
        is_optional = any(not values.get(name) for values in labels)
        if len(present) + is_optional < 2:
            continue
        numbers = {value: parse_number(value) for value in present}
        is_ordered = len(present) > 1 and all(number is not None for number in numbers.values())
        line = _number_line({v: n for v, n in numbers.items() if n is not None})
        values = line if is_ordered else tuple(sorted(present))
        factors.append(
            Factor(
                name=name,
                values=(*values, ABSENT) if is_optional else values,
                is_ordered=is_ordered,
            )
        )
    return tuple(factors)


def _number_line(numbers: Mapping[str, Fraction]) -> tuple[str, ...]:
    """The values at their smallest common step, from zero where it is near, to some steps above the highest.

    Values too far apart for their step are slots as they are, in order.
    """
    text_by_number = {number: text for text, number in sorted(numbers.items())}
    ordered = sorted(text_by_number)
    if len(ordered) < 2:
        return tuple(text_by_number.values())
    step = _common_step(ordered)
    low = max(Fraction(0), ordered[0] - _STEPS_BEYOND * step)
    low = ordered[0] - (ordered[0] - low) // step * step
    num_slots = int((ordered[-1] - low) / step) + 1 + _STEPS_BEYOND
    if num_slots > _MAX_SLOTS:
        return tuple(text_by_number[number] for number in ordered)
    line = [low + n * step for n in range(num_slots)]
    return tuple(text_by_number.get(number, f"{float(number):g}") for number in line)


def _common_step(ordered: Sequence[Fraction]) -> Fraction:
    """The largest number of which all differences are multiples."""
    step = ordered[1] - ordered[0]
    for low, high in pairwise(ordered):
        rest = high - low
        while rest:
            step, rest = rest, step % rest
    return step


def factor_codes(factor: Factor) -> np.ndarray:
    """What an additive model sees of each slot, float32 [K, C]: places on an arc for numbers, a column of its own for any other.

    All numbers of a line share two columns, so weights that some of them fit also place those that were never seen.
    """
    num_line = len(factor.present) if factor.is_ordered else 0
    num_free = len(factor.values) - num_line
    if not num_line:
        return np.eye(num_free, dtype=np.float32)
    codes_KC = np.zeros((num_line + num_free, 2 + num_free), np.float32)
    angles_K = np.arange(num_line) * min(_ARC_STEP, _ARC / (num_line - 1))
    codes_KC[:num_line, 0], codes_KC[:num_line, 1] = np.cos(angles_K), np.sin(angles_K)
    codes_KC[num_line:, 2:] = np.eye(num_free)
    return codes_KC


def factors_to_list(factors: Sequence[Factor]) -> list[dict[str, Any]]:
    """What a card keeps."""
    return [{"name": f.name, "values": list(f.values), "is_ordered": f.is_ordered} for f in factors]


def factors_from_list(values: Sequence[Mapping[str, Any]]) -> tuple[Factor, ...]:
    """The inverse; ValueError for unknown or missing keys."""
    return read_value(tuple[Factor, ...], values, "factors")
