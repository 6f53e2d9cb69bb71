"""Label pairs that an edit can lead between: ordered pairs that differ in few attributes."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from encoders.clips import REPLAY_OF, Clip


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeChange:
    """One attribute that an edit changes, with its old and new value."""

    name: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelPair:
    """An ordered pair of labels; `changes` are sorted by attribute name."""

    source_label: str
    target_label: str
    changes: tuple[AttributeChange, ...]


def stable_hash(*parts: str | int) -> int:
    """A 64-bit hash of the parts, the same in every process and on every platform."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def attributes_by_label(clips: Iterable[Clip]) -> dict[str, dict[str, str]]:
    """The attributes of each label, labels sorted; ValueError if clips of one label differ in them."""
    first_by_label: dict[str, tuple[str, dict[str, str]]] = {}
    for clip in clips:
        if clip.label is None:
            continue
        attributes = {n: v for n, v in clip.attributes.items() if n != REPLAY_OF}
        first_id, first = first_by_label.setdefault(clip.label, (clip.clip_id, attributes))
        if first != attributes:
            name = next(
                n for n in sorted({*first, *attributes}) if first.get(n) != attributes.get(n)
            )
            raise ValueError(
                f"clips {first_id!r} and {clip.clip_id!r} have the same label, {clip.label!r}, but {name!r} is "
                f"{first.get(name)!r} and {attributes.get(name)!r}; attributes must follow from the label"
            )
    return {label: first_by_label[label][1] for label in sorted(first_by_label)}


def label_pairs(
    attributes: Mapping[str, Mapping[str, str]], *, max_changes: int
) -> list[LabelPair]:
    """All ordered pairs with 1 to `max_changes` changed attributes, sorted by their labels.

    Labels can be compared only when they have the same attribute names.
    """
    pairs: list[LabelPair] = []
    for source_label in sorted(attributes):
        source = attributes[source_label]
        for target_label in sorted(attributes):
            target = attributes[target_label]
            if source.keys() != target.keys():
                continue
            names = sorted(name for name in source if source[name] != target[name])
            if 1 <= len(names) <= max_changes:
                changes = tuple(
                    AttributeChange(name=name, source=source[name], target=target[name])
                    for name in names
                )
                pairs.append(
                    LabelPair(source_label=source_label, target_label=target_label, changes=changes)
                )
    return pairs


def held_out_pairs(
    pairs: Iterable[LabelPair], *, share: float, seed: int
) -> frozenset[tuple[str, str]]:
    """The pairs, as (source label, target label), that training must never see."""
    keys = [(pair.source_label, pair.target_label) for pair in pairs]
    keys.sort(key=lambda key: (stable_hash("held out", seed, *key), key))
    return frozenset(keys[: round(share * len(keys))])
