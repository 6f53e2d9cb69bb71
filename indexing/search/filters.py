"""Which rows may answer? Filters as plain values, compiled to Milvus conditions in which no value can be read as code.

A name is looked up in a table and never copied into a condition unless it is known; a value is a typed literal or refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from indexing.store.filter_expression import quoted

TEXT_FIELDS = ("clip_id", "video_uri", "label", "split")
NUMBER_FIELDS = ("start_s", "end_s")
DURATION = "duration_s"
MAX_FILTERS = 32
MAX_VALUES = 256
MAX_TEXT = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFilter:
    """What Milvus checks, and what is left to check on the rows that it returns."""

    condition: str = ""
    """A Milvus expression; "" = every row."""
    duration_s: tuple[float, float] | None = None
    """Milvus does not subtract one column from another, and a clip to the end of its video has no end in its row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterFields:
    """The names that filters may use: the collection's columns and the attributes that its clips have."""

    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attribute name -> the values that it takes."""

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted({*TEXT_FIELDS, *NUMBER_FIELDS, DURATION, *self.attributes})

    def compile(self, filters: Mapping[str, Any] | None) -> RowFilter:
        """ValueError names the filter, its value and what is allowed.

        A text field takes a text or a list of texts; a number field a number or (low, high), where None is open; an attribute
        a value, a list of values, or (low, high) when its values are numbers.
        """
        filters = filters or {}
        if len(filters) > MAX_FILTERS:
            raise ValueError(
                f"{len(filters)} filters were given; at most {MAX_FILTERS} are allowed"
            )
        parts: list[str] = []
        duration = None
        for name, value in filters.items():
            if name == DURATION:
                duration = _duration(value)
            elif name in TEXT_FIELDS:
                parts.append(f"{name} in [{', '.join(_literals(name, value))}]")
            elif name in NUMBER_FIELDS:
                parts += _between(name, *_range(name, value))
            elif name in self.attributes:
                parts.append(self._attribute(name, value))
            else:
                raise ValueError(
                    f"no filter is named {name!r}; allowed are {', '.join(self.names())}"
                )
        return RowFilter(condition=" and ".join(parts), duration_s=duration)

    def _attribute(self, name: str, value: Any) -> str:
        if isinstance(value, tuple) or (isinstance(value, list) and _is_range(value)):
            low, high = _range(name, value)
            value = [one for one in self.attributes[name] if low <= _number_or_nan(one) <= high]
            if not value:
                known = ", ".join(self.attributes[name])
                raise ValueError(f"no value of {name!r} lies in {low} to {high}; it has {known}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = f"{value:g}"
        # Milvus Lite knows no `in` for a key of a JSON field.
        key = f"attributes[{quoted(name)}]"
        return f"({' or '.join(f'{key} == {one}' for one in _literals(name, value))})"


def _is_range(value: Sequence[Any]) -> bool:
    return len(value) == 2 and any(isinstance(one, int | float) or one is None for one in value)


def _duration(value: Any) -> tuple[float, float]:
    low, high = _range(DURATION, value)
    return low, high


def _literals(name: str, value: Any) -> list[str]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values or len(values) > MAX_VALUES:
        raise ValueError(f"filter {name!r} has {len(values)} values; 1 to {MAX_VALUES} are allowed")
    return [quoted(_text(name, one)) for one in values]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"filter {name!r} is {value!r}; it must be a text or a list of texts")
    if len(value) > MAX_TEXT or not all(one.isprintable() for one in value):
        raise ValueError(
            f"filter {name!r} is {value[:64]!r}; it must be at most {MAX_TEXT} printable characters"
        )
    return value


def _range(name: str, value: Any) -> tuple[float, float]:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    low, high = cast("tuple[Any, Any]", tuple(value) if is_pair else (value, value))
    try:
        if isinstance(low, bool) or isinstance(high, bool) or low is high is None:
            raise TypeError
        bounds = (
            -math.inf if low is None else float(low + 0),
            math.inf if high is None else float(high + 0),
        )
    except (TypeError, OverflowError):
        raise ValueError(
            f"filter {name!r} is {value!r}; it must be a number or (low, high), None for an open end"
        ) from None
    if math.isnan(bounds[0]) or math.isnan(bounds[1]) or bounds[0] > bounds[1]:
        raise ValueError(f"filter {name!r} is {value!r}; low must not be above high")
    return bounds


def _between(name: str, low: float, high: float) -> list[str]:
    parts = []
    if math.isfinite(low):
        parts.append(f"{name} >= {low!r}")
    if math.isfinite(high):
        parts.append(f"{name} <= {high!r}")
    return parts


def _number_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
