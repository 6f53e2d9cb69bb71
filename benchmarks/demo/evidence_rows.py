"""Rows of evidence that an encoder sees time: top-1, and the count within families of classes that differ in nothing else.

N clips, T frames, K classes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoders.clips import Clip
from encoders.metrics import bootstrap_interval

COUNTS = ("somersaults", "twists")
# Their poses give the count away without order (a half twist shows half of the facings): no evidence of anything.
LEAKING_LABELS = frozenset({"5251b", "5253b", "5255b"})
_MIN_FAMILY = 3


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Clips that no training saw."""

    __test__ = False  # no test class
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    """Of the classes, in the order of the logits."""

    @property
    def targets(self) -> Tensor:
        """Number of the right class [N]."""
        number = {label: n for n, label in enumerate(self.labels)}
        return torch.tensor([number[str(clip.label)] for clip in self.clips])


def count_families(
    attributes: Mapping[str, Mapping[str, str]], count: str
) -> list[tuple[str, ...]]:
    """Groups of at least three labels that differ in `count` alone, labels sorted.

    Left out: labels that leak their count, and those without any (a diver who never twists takes another pose).
    """
    groups: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    counted = {label for label, values in attributes.items() if values[count] != "0"}
    for label in sorted(counted - LEAKING_LABELS):
        others = tuple(sorted((k, v) for k, v in attributes[label].items() if k != count))
        groups[others].append(label)
    return [tuple(labels) for labels in groups.values() if len(labels) >= _MIN_FAMILY]


def right_given_family(
    logits_NK: Tensor, test: TestSet, families: Sequence[Sequence[str]]
) -> np.ndarray:
    """For each clip of a family: whether the right member has the largest logit within the family."""
    right: list[np.ndarray] = []
    for family in families:
        columns = torch.tensor([test.labels.index(label) for label in family])
        rows = torch.isin(test.targets, columns)
        predicted = columns[logits_NK[rows][:, columns].argmax(dim=1)]
        right.append((predicted == test.targets[rows]).numpy())
    return np.concatenate(right).astype(float)


def shuffle_frames(frames: Tensor, clips: Sequence[Clip]) -> Tensor:
    """Each clip's frames, or frame vectors, [N, T, ...] in an order of its own, drawn from its id."""
    num_frames = frames.shape[1]
    shuffled: list[Tensor] = []
    for frames_T, clip in zip(frames, clips, strict=True):
        digest = hashlib.sha256(clip.clip_id.encode()).digest()
        order = np.random.default_rng(list(digest[:8])).permutation(num_frames)
        shuffled.append(frames_T[torch.from_numpy(order)])
    return torch.stack(shuffled)


def evidence_rows(logits: Mapping[str, Tensor], test: TestSet) -> list[dict[str, object]]:
    """One row per figure, each with a bootstrap interval over clips; `logits` [N, K] are those of `ordered` and its controls."""
    rows = [
        accuracy_row(name, (logits_NK.argmax(dim=1) == test.targets).numpy(), 1 / len(test.labels))
        for name, logits_NK in logits.items()
    ]
    attributes = {str(clip.label): dict(clip.attributes) for clip in test.clips}
    for count in COUNTS:
        families = count_families(attributes, count)
        if not families:
            continue
        chance = len(families) / sum(map(len, families))
        for name, logits_NK in logits.items():
            suffix = "" if name == "ordered" else f"_{name}"
            right = right_given_family(logits_NK, test, families)
            row = accuracy_row(f"count_given_family_{count}{suffix}", right, chance)
            rows.append({**row, "families": [" ".join(family) for family in families]})
    return rows


def accuracy_row(name: str, is_right_N: np.ndarray, chance: float) -> dict[str, object]:
    """Share of right clips with its bootstrap interval, beside chance."""
    values_N = is_right_N.astype(float)
    low, high = bootstrap_interval(values_N)
    return {
        "name": name,
        "top1": round(float(values_N.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "chance": round(chance, 4),
        "num_clips": len(values_N),
    }
