"""What a figure must be (thresholds.toml), and whether it is.

A figure that was not measured is never a pass.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from encoders.files import from_dict

THRESHOLDS_PATH = Path(__file__).resolve().parent.parent / "thresholds.toml"
Unit = Literal[
    "percent", "points", "times", "cosine", "us", "ms", "s", "GB", "count", "clips/s", "error"
]
State = Literal["pass", "fail", "not measured"]
_RULES = ("min", "max", "above", "exact")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One rule for one metric of one benchmark on the hardware whose name begins so."""

    benchmark: str
    metric: str
    hardware: str
    unit: Unit
    title: str
    meaning: str
    min: float | None = None
    max: float | None = None
    above: float | None = None
    exact: float | None = None

    def __post_init__(self) -> None:
        where = f"bar {self.benchmark}.{self.metric}"
        rules = [name for name in _RULES if getattr(self, name) is not None]
        if len(rules) != 1:
            raise ValueError(f"{where} has the rules {rules}; give exactly one of {_RULES}")
        if self.unit not in get_args(Unit):
            raise ValueError(f"{where} has unit {self.unit!r}; choose one of {get_args(Unit)}")

    def holds(self, value: float) -> bool:
        """NaN holds nowhere: every comparison with it is false."""
        if self.min is not None:
            return value >= self.min
        if self.max is not None:
            return value <= self.max
        if self.above is not None:
            return value > self.above
        return value == self.exact

    def rule(self) -> str:
        """`at least 75 %`, in the unit of the figure."""
        words = {"min": "at least", "max": "at most", "above": "above", "exact": "exactly"}
        for name, word in words.items():
            limit = getattr(self, name)
            if limit is not None:
                return f"{word} {format_figure(limit, self.unit, is_limit=True)}"
        raise AssertionError("a bar has exactly one rule")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A bar and what was measured."""

    bar: Bar
    value: float | None

    @property
    def state(self) -> State:
        if self.value is None:
            return "not measured"
        return "pass" if self.bar.holds(self.value) else "fail"


def read_bars(path: Path = THRESHOLDS_PATH) -> list[Bar]:
    """All bars of a thresholds file, in its order."""
    try:
        rows = tomllib.loads(path.read_text())["bar"]
        return [from_dict(Bar, row, f"bar {number}") for number, row in enumerate(rows, 1)]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error


def judge(
    bars: Sequence[Bar], *, benchmark: str, hardware: str, metrics: Mapping[str, object]
) -> list[Verdict]:
    """One verdict for each bar of this benchmark on this hardware."""
    return [
        Verdict(bar=bar, value=_number(metrics.get(bar.metric)))
        for bar in bars
        if bar.benchmark == benchmark and hardware.startswith(bar.hardware)
    ]


def _number(value: object) -> float | None:
    """A plain number, or the median of repeated measurements."""
    if isinstance(value, Mapping):
        value = value.get("median", value.get("value"))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def format_figure(value: float, unit: Unit, *, is_limit: bool = False) -> str:
    """A figure as people read it; limits are shown without needless digits."""
    digits = 0 if is_limit else 1
    if unit == "percent":
        return f"{100 * value:.{digits}f} %"
    if unit == "points":
        return f"{100 * value:.{digits}f} points" if value else "0"
    if unit == "times":
        return f"{value:g} times" if is_limit else f"{value:.2f} times"
    if unit == "cosine":
        return f"{value:.{4 if is_limit else 6}f}"
    if unit in ("us", "ms"):
        return f"{value:.{digits}f} {unit}"
    if unit == "s":
        return format_duration(value)
    if unit == "GB":
        return f"{value:.{digits}f} GB"
    if unit == "clips/s":
        return f"{value:,.{digits}f} clips/s"
    if unit == "error":
        return f"{value:.{digits}e}"
    return f"{value:,.0f}"


def format_duration(seconds: float) -> str:
    """`9.4` -> `9.4 s`, `75` -> `1 min 15 s`, `900` -> `15 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
