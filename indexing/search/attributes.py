"""Attribute probabilities of clips and edit texts, from the classification head of stage 1.

The head was trained on vectors of any length and a collection holds unit vectors, so one scale is fitted on labelled clips of the
collection (temperature scaling). N clips, D vector, L labels.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from encoders.bundle.card import BundleCard, check_file
from encoders.bundle.checks import naming_file
from encoders.bundle.folder import HEAD_WEIGHTS
from indexing.search.types import Change, Reading

UNKNOWN = "unknown"
"""Stands for the value of labels that do not have an attribute."""
_SCALES = np.geomspace(1.0, 256.0, 49)
_MIN_PROBABILITY = 0.5
_NOT_WORDS = re.compile(r"[^a-z0-9.]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One value of one attribute."""

    name: str
    value: str


class AttributeReader:
    """The classification head with the attribute values of each label."""

    def __init__(
        self,
        weight_LD: np.ndarray,
        bias_L: np.ndarray,
        *,
        labels: Sequence[str],
        attributes: Mapping[str, Mapping[str, str]],
        scale: float = 1.0,
    ) -> None:
        self._weight_LD, self._bias_L, self.scale = weight_LD, bias_L, scale
        self.labels = tuple(labels)
        names = {name for label in labels for name in attributes.get(label, {})}
        self._members: dict[str, dict[str, np.ndarray]] = {}
        for name in sorted(names):
            values: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(labels)))
            for number, label in enumerate(labels):
                values[attributes.get(label, {}).get(name, UNKNOWN)][number] = 1.0
            self._members[name] = dict(values)
        members_VL = [member_L for values in self._members.values() for member_L in values.values()]
        self._members_LV = np.array(members_VL, np.float64).reshape(-1, len(labels)).T

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all attributes."""
        return tuple(self._members)

    def label_probabilities(self, vectors_ND: np.ndarray) -> np.ndarray:
        """Label probabilities of unit vectors [N, L]; rows sum to 1."""
        logits_NL = self.scale * vectors_ND @ self._weight_LD.T + self._bias_L
        powers_NL = np.exp(logits_NL - logits_NL.max(axis=1, keepdims=True))
        return powers_NL / powers_NL.sum(axis=1, keepdims=True)

    def fit(self, vectors_ND: np.ndarray, labels: Sequence[str]) -> "AttributeReader":
        """Calibrate the scale by maximum likelihood on labelled clips; returns this reader."""
        labelled = [number for number, label in enumerate(labels) if label in self.labels]
        if not labelled:
            return self
        targets = [self.labels.index(labels[number]) for number in labelled]
        # Label smoothing: where the head is right on every clip, the likeliest scale would be infinite.
        smoothing = 1 / len(labelled)

        def loss(scale: float) -> float:
            self.scale = float(scale)
            logs_NL = np.log(self.label_probabilities(vectors_ND[labelled]) + 1e-12)
            right = logs_NL[np.arange(len(labelled)), targets].mean()
            return -float((1 - smoothing) * right + smoothing * logs_NL.mean())

        self.scale = float(min(_SCALES, key=loss))
        return self

    def predict(self, vectors_ND: np.ndarray) -> list[dict[str, tuple[str, float]]]:
        """The likeliest value of each attribute and its probability, per clip."""
        probabilities_NV = self.label_probabilities(vectors_ND) @ self._members_LV
        predicted: list[dict[str, tuple[str, float]]] = [{} for _ in range(len(vectors_ND))]
        first = 0
        for name, members in self._members.items():
            values, part_NV = list(members), probabilities_NV[:, first : first + len(members)]
            first += len(members)
            chosen = zip(part_NV.argmax(axis=1).tolist(), part_NV.max(axis=1).tolist(), strict=True)
            for number, (best, probability) in enumerate(chosen):
                predicted[number][name] = (values[best], probability)
        return predicted

    def has(self, value: Value) -> bool:
        """Whether labels have this value."""
        return value.value in self._members.get(value.name, {})

    def probability(self, vectors_ND: np.ndarray, value: Value) -> np.ndarray:
        """The probability that each clip shows this value [N]."""
        return self.label_probabilities(vectors_ND) @ self._members[value.name][value.value]

    def agreement(
        self, query_D: np.ndarray, hits_ND: np.ndarray, *, without: Sequence[str]
    ) -> np.ndarray:
        """Mean probability that each hit shows the query's values of all other attributes [N]."""
        (query_values,) = self.predict(query_D[None])
        probabilities = [
            self.probability(hits_ND, Value(name=name, value=value))
            for name, (value, _probability) in query_values.items()
            if name not in without and len(self._members[name]) > 1
        ]
        return np.mean(probabilities, axis=0) if probabilities else np.zeros(len(hits_ND))

    def reading(self, clip_D: np.ndarray, query_D: np.ndarray) -> tuple[Reading, ...]:
        """What the clip shows, and as asked what the composed query shows in its place.

        It is all there is to know of the edits where the fusion has no factors.
        """
        before, after = self.predict(np.stack([clip_D, query_D]))
        return tuple(
            Reading(
                name=name,
                value=value,
                probability=probability,
                asked=after[name][0] if after[name][0] != value else None,
            )
            for name, (value, probability) in before.items()
        )

    def changes(self, reading: Sequence[Reading], hits_ND: np.ndarray) -> list[tuple[Change, ...]]:
        """Every attribute that was read of the query clip (before) and its value in each hit (after), changed ones first."""
        if not len(hits_ND):
            return []
        changes = [
            [
                Change(
                    name=read.name,
                    before=read.value or UNKNOWN,
                    after=after[read.name][0],
                    probability=after[read.name][1],
                    asked=read.asked,
                )
                for read in reading
                if read.name in after
            ]
            for after in self.predict(hits_ND)
        ]
        return [
            tuple(sorted(of_hit, key=lambda c: (not c.is_change, c.name))) for of_hit in changes
        ]

    def alternatives(self, excluded: Value) -> tuple[str, ...]:
        """Edit texts for the other values of the same attribute: "2.5 twists", "tuck"."""
        name = excluded.name.replace("_", " ")
        others = [value for value in self._members[excluded.name] if value != excluded.value]
        return tuple(
            f"with {value} {name}" if value[:1].isdigit() else value
            for value in others
            if value not in ("yes", "no", UNKNOWN)
        )

    def named(self, text: str) -> str | None:
        """The attribute that a text names ("the position", "take-off"), or None."""
        words = _words(text) - {"the", "same"}
        return next((name for name in self._members if _words(name) == words), None)

    def spoken(self, text: str) -> Value | None:
        """The only attribute value that a text contains word for word ("in pike", "2.5 twists"), or None."""
        words = _words(text)
        values = [
            Value(name=name, value=value)
            for name, members in self._members.items()
            for value in members
            if _words(value) <= words
            and (not value[:1].isdigit() or _stems(name) & {word.rstrip("s") for word in words})
            and value not in ("yes", "no", UNKNOWN)
        ]
        return values[0] if len(values) == 1 else None

    def read(self, composed_ND: np.ndarray, plain_ND: np.ndarray) -> Value | None:
        """The value that a text asks for: the one whose probability grows most when clips are edited with the text.

        `composed_ND` are the queries of the text with the clips `plain_ND`. None when no value becomes likelier than not.
        """
        after_L = self.label_probabilities(composed_ND).mean(axis=0)
        before_L = self.label_probabilities(plain_ND).mean(axis=0)
        gains = [
            (
                float(after_L @ member_L) * _log_ratio(after_L @ member_L, before_L @ member_L),
                name,
                value,
            )
            for name, members in self._members.items()
            for value, member_L in members.items()
            if len(members) > 1 and after_L @ member_L >= _MIN_PROBABILITY
        ]
        gain, name, value = max(gains, default=(0.0, "", ""))
        return Value(name=name, value=value) if gain > 0 else None


def _log_ratio(after: float, before: float) -> float:
    return float(np.log((after + 1e-6) / (before + 1e-6)))


def _words(text: str) -> set[str]:
    return set(_NOT_WORDS.sub(" ", text.lower()).split())


def _stems(name: str) -> set[str]:
    """The words of an attribute's name without the plural."""
    return {word.rstrip("s") for word in _words(name)}


class LabelAttributes:
    """Counts the values of each attribute by label, row by row."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(
            lambda: defaultdict(Counter)
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """One row with its `label` and `attributes`."""
        for name, value in (row["attributes"] or {}).items():
            if row["label"]:
                self._counts[row["label"]][name][str(value)] += 1

    def most_frequent(self) -> dict[str, dict[str, str]]:
        """The most frequent value of each attribute, by label."""
        return {
            label: {name: values.most_common(1)[0][0] for name, values in names.items()}
            for label, names in self._counts.items()
        }


def open_attribute_reader(
    bundle_dir: str | Path, card: BundleCard, attributes: Mapping[str, Mapping[str, str]]
) -> AttributeReader | None:
    """Open the head of a bundle; None where it has none, or where no label has attributes."""
    if card.labels is None or HEAD_WEIGHTS not in card.files:
        return None
    if not any(attributes.get(label) for label in card.labels):
        return None
    path = check_file(Path(bundle_dir), card, HEAD_WEIGHTS)
    with naming_file(path):
        weights = safetensors.numpy.load_file(path)
        num_labels = len(card.labels)
        shapes = {"weight": (num_labels, card.embedding_dim), "bias": (num_labels,)}
        for name, shape in shapes.items():
            if weights[name].shape != shape or not np.isfinite(weights[name]).all():
                raise ValueError(
                    f"{name} is {weights[name].shape}; it must be {shape}, finite numbers"
                )
        return AttributeReader(
            weights["weight"], weights["bias"], labels=card.labels, attributes=attributes
        )
