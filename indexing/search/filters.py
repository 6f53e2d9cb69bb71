"""Search filters: one registry of names, types, command-line parsers and Milvus expressions, safe against injection.

To add a filter: register it here and, where its column is new, add that to `store/schema.py`. The schema of the HTTP service and
the parser of the command line are derived from `FILTERS`. A name gets into a condition only from the registry or from the attributes
of the collection, and a value only as a typed literal.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from encoders.clips import is_storable
from indexing.store.filter_expression import any_of, quoted
from indexing.store.schema import TO_THE_END

DURATION = "duration_s"
MAX_FILTERS = 32
MAX_VALUES = 256
MAX_TEXT = 1024
_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterType:
    """A type of filter values."""

    parse: Callable[[str], Any]
    """Reads the VALUE of NAME=VALUE on the command line; ValueError without a name."""
    expression: Callable[[str, str, Any], str]
    """Makes the Milvus expression from the filter's name, its column and a value; ValueError names the filter."""
    json_schema: Mapping[str, Any]
    """JSON schema of a value in an HTTP request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """A search filter that every collection has."""

    name: str
    type: FilterType
    description: str
    column: str | None = ""
    """Column of the collection; "" = the filter's name, None = not a column: ranking checks the rows that Milvus returns."""
    absent: float | None = None
    """What stands in the column of a row that has no value; no range takes it in."""

    def condition(self, value: Any) -> str:
        """The Milvus expression for a value; ValueError names the filter."""
        column = self.column or self.name
        expression = self.type.expression(self.name, column, value)
        is_partial = expression and self.absent is not None
        return f"{column} != {self.absent} and {expression}" if is_partial else expression


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFilter:
    """The part of the filters that Milvus checks, and the part that is checked on the rows that it returns."""

    condition: str = ""
    """Milvus expression; "" = every row."""
    duration_s: tuple[float, float] | None = None
    """Range of durations. Milvus cannot check it: it does not subtract columns, and an open-ended clip has no end in its row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterFields:
    """The filters of one collection: the registered ones and the attributes of its clips."""

    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values of each attribute."""

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted({*FILTERS, *self.attributes})

    def compile(self, filters: Mapping[str, Any] | None) -> RowFilter:
        """Compile filter values; ValueError names the filter, its value and what is allowed.

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
            registered = FILTERS.get(name)
            if name == DURATION:
                duration = _range(name, value)
            elif registered is not None:
                parts.append(registered.condition(value))
            elif name in self.attributes:
                parts.append(self._attribute(name, value))
            else:
                near = get_close_matches(name, self.names(), n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(
                    f"no filter is named {name!r}; {hint}allowed are {', '.join(self.names())}"
                )
        return RowFilter(condition=" and ".join(filter(None, parts)), duration_s=duration)

    def _attribute(self, name: str, value: Any) -> str:
        key = f"attributes[{quoted(name)}]"
        if isinstance(value, tuple) or (isinstance(value, list) and _is_range(value)):
            return any_of([_between(key, *run) for run in self._runs(name, value)])
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = _number_text(name, value)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = [value, f"{value}.0"]  # as columns of floats are written
        # Not `in`: Milvus Lite does not support it for a key of a JSON field.
        return any_of([f"{key} == {literal}" for literal in _literals(name, value)])

    def _runs(self, name: str, value: Any) -> list[tuple[str, str]]:
        """The values in a range of numbers, as runs of the sorted texts: (first, last). Milvus compares them as texts.

        Texts of numbers with one integer part are neighbours, so that a column of 10,000 scores takes a run for each integer part.
        """
        low, high = _range(name, value)
        known = sorted(self.attributes[name])
        inside = [low <= _number_or_nan(text) <= high for text in known]
        if not any(inside):
            values = some_of(self.attributes[name], _MOST_NAMED)
            raise ValueError(f"no value of {name!r} lies in {low} to {high}; it has {values}")
        runs = [
            [text for text, _ in run]
            for is_inside, run in groupby(zip(known, inside, strict=True), key=itemgetter(1))
            if is_inside
        ]
        if len(runs) > MAX_VALUES:
            raise ValueError(
                f"filter {name!r} is {value!r}, which takes {len(runs)} comparisons; at most {MAX_VALUES} are allowed, ask for a "
                "narrower range"
            )
        return [(run[0], run[-1]) for run in runs]


def _between(key: str, first: str, last: str) -> str:
    if first == last:
        return f"{key} == {quoted(first)}"
    return f"({key} >= {quoted(first)} and {key} <= {quoted(last)})"


def some_of(values: Sequence[str], limit: int) -> str:
    """The first of them in one line."""
    return ", ".join(values[:limit]) + (" ..." if len(values) > limit else "")


def _number_text(name: str, value: float) -> str:
    """A number as it stands in the attributes of clips: 2 and 2.0 are "2"."""
    if not math.isfinite(value if isinstance(value, float) else 0) or abs(value) >= 2**63:
        raise ValueError(f"filter {name!r} is not a number that fits in 64 bits")
    return str(int(value)) if value == int(value) else repr(value)


def _is_range(value: Sequence[Any]) -> bool:
    return len(value) == 2 and any(isinstance(end, int | float) or end is None for end in value)


def _literals(name: str, value: Any) -> list[str]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values or len(values) > MAX_VALUES:
        raise ValueError(f"filter {name!r} has {len(values)} values; 1 to {MAX_VALUES} are allowed")
    return [quoted(_text(name, text)) for text in values]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"filter {name!r} is {value!r}; it must be a text or a list of texts")
    if len(value) > MAX_TEXT or not is_storable(value):
        raise ValueError(
            f"filter {name!r} is {value[:64]!r}; it must be at most {MAX_TEXT} characters, without null characters and halves of characters"
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
    except OverflowError:
        raise ValueError(f"filter {name!r} has a number that does not fit in 64 bits") from None
    except TypeError:
        raise ValueError(
            f"filter {name!r} is {value!r}; it must be a number or (low, high), None for an open end"
        ) from None
    if math.isnan(bounds[0]) or math.isnan(bounds[1]) or bounds[0] > bounds[1]:
        raise ValueError(f"filter {name!r} is {value!r}; low must not be above high")
    return bounds


def _text_expression(name: str, column: str, value: Any) -> str:
    return f"{column} in [{', '.join(_literals(name, value))}]"


def _number_expression(name: str, column: str, value: Any) -> str:
    low, high = _range(name, value)
    parts = []
    if math.isfinite(low):
        parts.append(f"{column} >= {low!r}")
    if math.isfinite(high):
        parts.append(f"{column} <= {high!r}")
    return " and ".join(parts)


def _number_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _parse_texts(text: str) -> Any:
    """One text, commas and all; several as a JSON list, or by naming the filter again."""
    if not text.startswith("["):
        return text
    try:
        values = json.loads(text)
    except ValueError:
        return text
    return values if isinstance(values, list) else text


def _parse_range(text: str) -> tuple[float | None, float | None]:
    low, _dots, high = text.partition("..")
    try:
        return (float(low) if low else None, float(high) if high else None)
    except ValueError:
        raise ValueError("LOW and HIGH must be numbers") from None


def _parse_number(text: str) -> Any:
    if ".." in text:
        return _parse_range(text)
    try:
        return float(text)
    except ValueError:
        raise ValueError("the value must be a number or LOW..HIGH") from None


def _parse_any(text: str) -> Any:
    """The values of an attribute are known only once the collection is open."""
    with suppress(ValueError):
        if ".." in text:
            return _parse_range(text)
    return _parse_texts(text)


_TEXT_SCHEMA = {"type": "string", "maxLength": MAX_TEXT}
_END_SCHEMA = {"anyOf": [{"type": "number"}, {"type": "null"}]}
TEXT = FilterType(
    parse=_parse_texts,
    expression=_text_expression,
    json_schema={
        "anyOf": [
            _TEXT_SCHEMA,
            {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1, "maxItems": MAX_VALUES},
        ]
    },
)
NUMBER = FilterType(
    parse=_parse_number,
    expression=_number_expression,
    json_schema={
        "anyOf": [
            {"type": "number"},
            {"type": "array", "items": _END_SCHEMA, "minItems": 2, "maxItems": 2},
        ]
    },
)
FILTERS: dict[str, Filter] = {}
"""Every registered filter, by name."""


def register_filter(new: Filter) -> None:
    """Add a filter to searches by Python, HTTP and command line; ValueError where the name is taken."""
    if new.name in FILTERS:
        raise ValueError(f"filter {new.name!r} is registered already")
    FILTERS[new.name] = new


for _filter in (
    Filter(name="clip_id", type=TEXT, description="ids of clips"),
    Filter(name="video_uri", type=TEXT, description="URIs of videos, as stored"),
    Filter(name="label", type=TEXT, description="labels of clips"),
    Filter(name="split", type=TEXT, description="splits of clips"),
    Filter(name="start_s", type=NUMBER, description="start of the clip in its video, in seconds"),
    Filter(
        name="end_s",
        type=NUMBER,
        description="end of the clip in its video, in seconds; a clip to the end of its video has none",
        absent=TO_THE_END,
    ),
    Filter(name=DURATION, type=NUMBER, description="duration of the clip in seconds", column=None),
):
    register_filter(_filter)


def parse_filter(text: str) -> tuple[str, Any]:
    """NAME=VALUE, NAME=["A", "B"] or NAME=LOW..HIGH as (name, value); a name that is not registered is read as an attribute."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise ValueError(f'filter {text!r} must be NAME=VALUE, NAME=["A", "B"] or NAME=LOW..HIGH')
    parse = FILTERS[name].type.parse if name in FILTERS else _parse_any
    try:
        return name, parse(value)
    except ValueError as error:
        raise ValueError(f"filter {text!r}: {error}") from None


def filter_json_schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of each registered filter's value, by name."""
    return {
        name: {"description": registered.description, **registered.type.json_schema}
        for name, registered in FILTERS.items()
    }
