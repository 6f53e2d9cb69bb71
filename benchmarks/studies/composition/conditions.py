"""What training shows and what is asked of it, condition by condition, on the triplets of one archive.

Clips of val and test are never shown. Where a condition is about label pairs, those that val asks are others than those that test
asks, so that a choice made on val is not made on the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from encoders.query_encoder.factors import Factor, find_factors
from training.annotations.labels.names import label_attributes
from training.annotations.labels.pairs import stable_hash
from training.annotations.triplets.free_texts import Bank, Operation, opposites, phrase
from training.annotations.triplets.table import Triplet

FEW = 16
HELD_OUT_CLASSES = ("205c", "107b", "5154b")
"""Classes that the condition unseen_class holds out of both stages."""
HELD_OUT_VALUES = (("twists", "2"), ("somersaults", "3.5"))
_RELATIVE_SHARE = 0.5

Attributes = Callable[[str], dict[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A name and the triplets of each split; train is what is shown."""

    name: str
    is_shown: Callable[[Triplet], bool]
    is_asked: Callable[[Triplet], bool]
    is_chosen_on: Callable[[Triplet], bool] = lambda _triplet: True
    """Of val."""

    def triplets(self, triplets: Sequence[Triplet]) -> list[Triplet]:
        """Those of all three splits; ValueError where a split is left empty."""
        keeps = {"train": self.is_shown, "val": self.is_chosen_on, "test": self.is_asked}
        kept = [t for t in triplets if t.split in keeps and keeps[t.split](t)]
        missing = sorted(set(keeps) - {t.split or "" for t in kept})
        if missing:
            raise ValueError(
                f"condition {self.name!r}: {len(triplets)} triplets leave nothing for {', '.join(missing)}"
            )
        return kept


def _pair_part(triplet: Triplet) -> int:
    return stable_hash("pair", triplet.source_label or "", triplet.target_label or "") % 6


def _has_value(label: str | None, name: str, value: str) -> bool:
    return label_attributes(label or "").get(name) == value


def _all(_triplet: Triplet) -> bool:
    return True


def _unseen_value(name: str, value: str) -> Condition:
    def is_shown(triplet: Triplet) -> bool:
        labels = (triplet.source_label, triplet.target_label)
        return not any(_has_value(label, name, value) for label in labels)

    def is_asked(triplet: Triplet) -> bool:
        return _has_value(triplet.target_label, name, value) and not _has_value(
            triplet.source_label, name, value
        )

    return Condition(
        name=f"unseen_values.{name}_{value}",
        is_shown=is_shown,
        is_asked=is_asked,
        is_chosen_on=is_shown,
    )


SEEN_PAIRS = Condition(name="seen_pairs", is_shown=_all, is_asked=_all)
UNSEEN_PAIRS = Condition(
    name="unseen_pairs",
    is_shown=lambda t: _pair_part(t) < 2,
    is_chosen_on=lambda t: _pair_part(t) == 2,
    is_asked=lambda t: _pair_part(t) > 2,
)
CONDITIONS: tuple[Condition, ...] = (
    SEEN_PAIRS,
    UNSEEN_PAIRS,
    Condition(
        name="few", is_shown=lambda t: stable_hash("few", t.query_id) % FEW == 0, is_asked=_all
    ),
    *(_unseen_value(*held_out) for held_out in HELD_OUT_VALUES),
)
UNSEEN_CLASS = Condition(
    name="unseen_class",
    is_shown=lambda t: not {t.source_label, t.target_label} & set(HELD_OUT_CLASSES),
    is_chosen_on=lambda t: not {t.source_label, t.target_label} & set(HELD_OUT_CLASSES),
    is_asked=lambda t: (
        t.target_label in HELD_OUT_CLASSES and t.source_label not in HELD_OUT_CLASSES
    ),
)


def reworded(triplets: Sequence[Triplet], bank: Bank) -> list[Triplet]:
    """The same edits in other words: each changed attribute as one operation, phrased from a bank."""
    labels = {label for t in triplets for label in (t.source_label, t.target_label) if label}
    factors = {f.name: f for f in find_factors(label_attributes(label) for label in labels)}
    return [
        replace(
            t,
            edit_text=phrase(edit_operations(t, factors), stable_hash("wording", t.query_id), bank),
        )
        for t in triplets
    ]


def edit_operations(triplet: Triplet, factors: dict[str, Factor]) -> list[Operation]:
    """Operations that lead from the source label's attributes to the target's; half of those that can be are relative."""
    source = label_attributes(triplet.source_label or "")
    target = label_attributes(triplet.target_label or "")
    operations = []
    for name, factor in factors.items():
        old, new = source.get(name), target.get(name)
        if new is None or old is None or old == new:
            continue
        draw = stable_hash("relative", triplet.query_id, name) / 2**64
        operations.append(_operation(factor, old, new, is_relative=draw < _RELATIVE_SHARE))
    return operations


def _operation(factor: Factor, old: str, new: str, *, is_relative: bool) -> Operation:
    if factor.is_ordered:
        steps = factor.slot(new) - factor.slot(old)
        if is_relative:
            kind = "more" if steps > 0 else "fewer"
            return Operation(factor=factor, kind=kind, value=str(abs(steps)))
        is_zero = float(new) == 0
        return Operation(factor=factor, kind="set_zero" if is_zero else "set_number", value=new)
    if is_relative and any({old, new} == set(pair) for pair in opposites(factor)):
        return Operation(factor=factor, kind="opposite")
    return Operation(factor=factor, kind="set_value", value=new)
