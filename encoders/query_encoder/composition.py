"""A composed query with the factors that it was made from, as numbers that every backend gives; no torch here.

N queries, D clip vector, S slots of all factors, F factors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.query_encoder.factors import Factor

_MIN_ASKED = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorReading:
    """One factor of one query."""

    name: str
    value: str
    """What the clip shows, or what the user gave; "" = it does not have the attribute."""
    probability: float
    asked: str | None
    """What the text asks for; None where it leaves the factor alone."""
    is_given: bool


@dataclass(frozen=True, slots=True)
class FactorComposition:
    """Query vectors [N, D], distributions before and after the edit [N, S], and how sure each factor is asked for [N, F]."""

    query_ND: np.ndarray
    source_NS: np.ndarray
    target_NS: np.ndarray
    asked_NF: np.ndarray

    def readings(
        self, number: int, factors: Sequence[Factor], given_S: np.ndarray
    ) -> list[FactorReading]:
        """The factors of one query; `given_S` is what the user gave of it."""
        readings, start = [], 0
        for place, factor in enumerate(factors):
            slots = slice(start, start + len(factor.values))
            start = slots.stop
            source_K, target_K = self.source_NS[number, slots], self.target_NS[number, slots]
            is_asked = self.asked_NF[number, place] > _MIN_ASKED
            readings.append(
                FactorReading(
                    name=factor.name,
                    value=factor.values[int(source_K.argmax())],
                    probability=float(source_K.max()),
                    asked=factor.values[int(target_K.argmax())] if is_asked else None,
                    is_given=bool(given_S[slots].any()),
                )
            )
        return readings


def given_factors(factors: Sequence[Factor], given: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Values by attribute as slots [N, S], zeros where nothing is given; ValueError for a name or value that no factor has."""
    slots_NS = np.zeros((len(given), sum(len(factor.values) for factor in factors)), np.float32)
    for number, values in enumerate(given):
        unknown = sorted(set(values) - {factor.name for factor in factors})
        if unknown:
            names = (
                ", ".join(factor.name for factor in factors) or "none: the fusion has no factors"
            )
            raise ValueError(f"source names {unknown[0]!r}; its attributes must be among: {names}")
        start = 0
        for factor in factors:
            if factor.name in values:
                value = values[factor.name]
                slot = factor.slot(value)
                if slot < 0:
                    raise ValueError(
                        f"source {factor.name!r} is {value!r}; it must be one of {', '.join(factor.present)}"
                    )
                slots_NS[number, start + slot] = 1
            start += len(factor.values)
    return slots_NS
