"""Edit texts with their truth: what each does to every slot of every factor. No clip is needed, so any edit can be shown.

Texts come in twins that differ in one operation: the nearest wrong readings of each other.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from encoders.query_encoder.factors import Factor, parse_number
from training.annotations.labels.pairs import AttributeChange
from training.annotations.triplets.phrase_bank import (
    FRAMES,
    JOINTS,
    NAMES,
    NOUNS,
    OPPOSITES,
    PHRASES,
    SYNONYMS,
    Phrases,
)
from training.annotations.triplets.templates import (
    absolute_phrases,
    noun_forms,
    number_words,
    relative_phrases,
)

Bank = Literal["shown", "val", "held_out"]
_NUM_OPERATIONS = (1, 1, 2, 2, 3, 4)
_TYPO_SHARE = 0.15
_TEMPLATE_SHARE = 0.3
_OTHER_NAME_SHARE = 0.2
_SHIFTS = (1, 1, 1, 2, 2, 3, 4)
_YES_NO = {"yes", "no"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation on one factor; `truth_KK` holds per slot the distribution it becomes."""

    factor: Factor
    kind: str
    value: str = ""
    other: str = ""

    @property
    def truth_KK(self) -> np.ndarray:  # noqa: N802 - K slots
        """Row-stochastic."""
        factor = self.factor
        num_slots, num_line = len(factor.values), len(factor.present)
        truth_KK = np.eye(num_slots, dtype=np.float32)
        slot = factor.slot(self.value) if self.kind not in ("more", "fewer") else 0
        if self.kind in ("set_number", "set_zero", "set_value"):
            truth_KK[:] = 0
            truth_KK[:, slot] = 1
        elif self.kind in ("more", "fewer"):
            offset = int(self.value) * (1 if self.kind == "more" else -1)
            truth_KK[:num_line, :num_line] = 0
            for row in range(num_line):
                truth_KK[row, min(max(row + offset, 0), num_line - 1)] = 1
        elif self.kind == "not_value":
            truth_KK[slot] = 1 / max(num_line - 1, 1)
            truth_KK[slot, num_line:] = 0
            truth_KK[slot, slot] = 0
        elif self.kind in ("swap", "opposite"):
            pairs = ((self.value, self.other),) if self.kind == "swap" else opposites(factor)
            for first, second in pairs:
                a, b = factor.slot(first), factor.slot(second)
                truth_KK[[a, b]] = 0
                truth_KK[a, b] = truth_KK[b, a] = 1
        return truth_KK


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeText:
    """A text and all that it does."""

    text: str
    operations: tuple[Operation, ...]

    def truths(self, factors: Sequence[Factor]) -> list[np.ndarray]:
        """One matrix [K, K] per factor: the identity where the text leaves it alone."""
        by_name = {operation.factor.name: operation.truth_KK for operation in self.operations}
        return [by_name.get(f.name, np.eye(len(f.values), dtype=np.float32)) for f in factors]


def opposites(factor: Factor) -> tuple[tuple[str, str], ...]:
    """The pairs of values that "the opposite" swaps."""
    listed = [p for p in OPPOSITES.get(factor.name, ()) if set(p) <= set(factor.present)]
    if not listed and len(factor.present) == 2 and not factor.is_ordered:
        first, second = factor.present
        return ((first, second),)
    return tuple(listed)


def free_texts(
    factors: Sequence[Factor], *, num_texts: int, seed: int, bank: Bank = "shown"
) -> list[FreeText]:
    """Distinct texts, in twins; fewer than `num_texts` where the factors allow no more."""
    if not factors:
        return []
    rng = random.Random(f"{seed} {bank}")
    texts: dict[str, FreeText] = {}
    for _ in range(20 * num_texts):
        if len(texts) >= num_texts:
            break
        num_operations = min(rng.choice(_NUM_OPERATIONS), len(factors))
        chosen = rng.sample(list(factors), num_operations)
        operations = [draw_operation(factor, rng) for factor in chosen]
        wording = rng.getrandbits(64)
        twin = [draw_operation(chosen[0], rng, kind=operations[0].kind), *operations[1:]]
        for part in (operations, twin):
            text = phrase(part, wording, bank)
            texts.setdefault(text, FreeText(text=text, operations=tuple(part)))
    return list(texts.values())[:num_texts]


def draw_operation(factor: Factor, rng: random.Random, kind: str | None = None) -> Operation:
    """A random operation that the factor has."""
    if kind is None:
        kind = rng.choice(_kinds(factor))
    if kind == "set_number":
        counted = [value for value in factor.present if parse_number(value)]
        return Operation(factor=factor, kind=kind, value=rng.choice(counted))
    if kind == "set_zero":
        return Operation(factor=factor, kind=kind, value=factor.present[0])
    if kind in ("more", "fewer"):
        steps = [step for step in _SHIFTS if step < len(factor.present)]
        return Operation(factor=factor, kind=kind, value=str(rng.choice(steps)))
    if kind == "swap":
        value, other = rng.sample(factor.present, 2)
        return Operation(factor=factor, kind=kind, value=value, other=other)
    return Operation(factor=factor, kind=kind, value=rng.choice(factor.present))


def _kinds(factor: Factor) -> list[str]:
    if factor.is_ordered:
        kinds = ["set_number"] * 4 + ["keep"]
        if parse_number(factor.present[0]) == 0:
            kinds += ["set_zero"]
        return kinds + (["more"] * 3 + ["fewer"] * 3 if factor.step is not None else [])
    kinds = ["set_value"] * 5 + ["keep"]
    if set(factor.present) == _YES_NO:
        return kinds
    kinds += ["not_value"] if len(factor.present) > 1 else []
    kinds += ["swap"] if len(factor.present) > 2 else []
    return kinds + (["opposite"] * 2 if opposites(factor) else [])


def phrase(operations: Sequence[Operation], wording: int, bank: Bank) -> str:
    """The operations as one text; the same wording of other operations gives a text that differs in their values only."""
    rng = random.Random(wording)
    parts = [_words_of(operation, rng, bank) for operation in operations]
    text = parts[0]
    for part in parts[1:]:
        text += rng.choice(JOINTS) + part
    text = _pick(FRAMES, bank, rng).format(text)
    if rng.random() < _TYPO_SHARE:
        text = with_typo(text, rng)
    return text.capitalize() if rng.random() < 0.1 else text


def _words_of(operation: Operation, rng: random.Random, bank: Bank) -> str:
    factor, kind = operation.factor, operation.kind
    if bank == "shown" and rng.random() < _TEMPLATE_SHARE and (old := _template_phrases(operation)):
        return rng.choice(old)
    pattern = _pick(PHRASES[kind], bank, rng)
    style = rng.random()
    name = factor.name.replace("_", "-" if rng.random() < 0.5 else " ")
    singular, plural = noun_forms(factor.name)
    if bank == "shown" and rng.random() < _OTHER_NAME_SHARE:
        name = rng.choice(NAMES.get(factor.name, (name,)))
        singular, plural = rng.choice(NOUNS.get(factor.name, ((singular, plural),)))
    filled = {"name": name}
    draw = rng.choice(factor.present)
    if kind in ("set_number", "more", "fewer", "set_zero"):
        number = operation.value
        if kind in ("more", "fewer"):
            number = f"{float(int(operation.value) * (factor.step or 1)):g}"
        n, is_one = _spoken(number, singular, style)
        noun = singular if is_one else plural
        if n.startswith("half a"):  # "half a twist more", not "half a twist twist"
            pattern = pattern.replace("{n} more {nouns}", "{n} {nouns} more")
            pattern = pattern.replace("{n} less {nouns}", "{n} {nouns} less")
            pattern = pattern.replace("{n} fewer {nouns}", "{n} {nouns} less")
        return pattern.format(n=n, m=draw, noun=singular, nouns=noun, **filled)
    if set(factor.present) == _YES_NO and kind == "set_value":
        with_it = ("with {name}", "{name}", "as {name}", "with an {name}", "from {name}")
        without = (
            "no {name}",
            "without {name}",
            "not {name}",
            "without the {name}",
            "not from {name}",
        )
        return rng.choice(with_it if operation.value == "yes" else without).format(**filled)
    others = [value for value in factor.present if value != operation.value]
    old = rng.choice(others) if others else operation.value
    word = _synonym(factor, operation.value, rng, bank)
    other = _synonym(factor, operation.other, rng, bank) if operation.other else ""
    return pattern.format(value=word, old=old, other=other, **filled)


def _template_phrases(operation: Operation) -> tuple[str, ...]:
    """The phrases that triplets use for the same operation."""
    factor, kind, value = operation.factor, operation.kind, operation.value
    if kind in ("set_number", "set_zero", "set_value"):
        source = next((v for v in factor.present if v != value), value)
        return absolute_phrases(AttributeChange(name=factor.name, source=source, target=value))
    if kind in ("more", "fewer"):
        low, high = factor.present[0], factor.present[int(value)]
        source, target = (low, high) if kind == "more" else (high, low)
        return relative_phrases(AttributeChange(name=factor.name, source=source, target=target))
    return ()


def _spoken(number: str, singular: str, style: float) -> tuple[str, bool]:
    """The number in digits or words, and whether its noun is singular."""
    value = parse_number(number)
    assert value is not None
    if value.denominator == 2 and value < 1 and style < 0.6:
        return f"half {'an' if singular[0] in 'aeiou' else 'a'}", True
    if value == 1:
        return ("1" if style < 0.3 else "one" if style < 0.8 else "a single"), True
    words = number_words(value)
    return (words if words is not None and style < 0.45 else number), False


def _synonym(factor: Factor, value: str, rng: random.Random, bank: Bank) -> str:
    plain = value.replace("_", " ")
    phrases = SYNONYMS.get((factor.name, value))
    if phrases is None or rng.random() < 0.4:
        return plain
    return _pick(phrases, bank, rng)


def _pick(phrases: Phrases, bank: Bank, rng: random.Random) -> str:
    patterns = {"shown": phrases.shown, "val": phrases.val, "held_out": phrases.held_out}
    return rng.choice(patterns[bank])


def with_typo(text: str, rng: random.Random) -> str:
    """One word of at least five letters with a letter lost, doubled or exchanged with the next one."""
    words = text.split(" ")
    long = [n for n, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    place = rng.choice(long)
    word = words[place]
    at = rng.randrange(1, len(word) - 2)
    changes: tuple[Callable[[], str], ...] = (
        lambda: word[:at] + word[at + 1 :],
        lambda: word[:at] + word[at] + word[at:],
        lambda: word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    )
    words[place] = rng.choice(changes)()
    return " ".join(words)
