"""Whether a sentence that somebody else wrote says just the changes of a label pair.

Strict on purpose: a sentence that is refused costs one phrasing (a template takes its place), a wrong
one costs training. So a sentence says new values only, numbers absolute, and nothing about the rest.
"""

import re
from collections.abc import Iterable, Set
from fractions import Fraction

from training.annotations.labels.pairs import AttributeChange, LabelPair
from training.annotations.triplets.templates import parse_number

MAX_WORDS = 30
"""As many as the text encoder's training saw."""

_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+(?:-[a-z]+)*")
_CARDINALS = {
    word: Fraction(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_HALF = Fraction(1, 2)
_NEGATIONS = frozenset({"no", "not", "without", "zero", "0"})
_RELATIVE = frozenset(
    {"more", "less", "fewer", "extra", "additional", "another", "double", "triple", "twice", "single",
     "increase", "decrease", "reduce", "add", "remove", "fewest", "most"}
)  # fmt: skip


def refusal(sentence: str, pair: LabelPair, vocabulary: Iterable[AttributeChange]) -> str | None:
    """Why the sentence does not say the pair's changes; None if it does.

    `vocabulary` holds the changes of all pairs: what a sentence must not say when it is not asked.
    """
    words = _WORD.findall(sentence.lower())
    if not words or len(words) > MAX_WORDS or not sentence.isprintable():
        return f"it has {len(words)} words on its line; 1 to {MAX_WORDS} are allowed"
    values = {value for change in pair.changes for value in (change.source, change.target)}
    for label in {pair.source_label, pair.target_label} - values:
        if re.search(rf"\b{re.escape(label.lower())}\b", sentence.lower()):
            return f"it names the label {label}"
    if relative := _RELATIVE & set(words):
        return f"it is relative ({sorted(relative)[0]!r}); new values are to be said as they are"
    numbers = _numbers(words)
    for change in pair.changes:
        if reason := _unsaid(change, words, numbers):
            return reason
    wanted = {number for c in pair.changes if (number := parse_number(c.target)) is not None}
    wrong = [number for number, _ in numbers if number not in wanted]
    if wrong:
        return f"it says the number {float(wrong[0]):g}, which is no new value"
    if len([number for number, _ in numbers if number]) != len(
        [c for c in pair.changes if parse_number(c.target)]
    ):
        return "it says another number of numbers than there are new values"
    return _unasked(pair, words, vocabulary)


def _unsaid(
    change: AttributeChange, words: list[str], numbers: list[tuple[Fraction, int]]
) -> str | None:
    """Why this one change is not said."""
    target = parse_number(change.target)
    if target is not None:
        stem = change.name.replace("_", " ").split()[-1].removesuffix("s").lower()
        near = [number for number, end in numbers if _says(words[end : end + 2], stem)]
        if target == 0:
            has_noun = _says(words, stem)
            return None if has_noun and _NEGATIONS & set(words) else f"it does not say no {stem}"
        if near != [target]:
            return f"it does not say {change.target} {change.name}"
        return None
    if {change.source, change.target} == {"yes", "no"}:
        is_said = all(_says(words, stem) for stem in _stems(change.name))
        if not is_said or bool(_NEGATIONS & set(words)) != (change.target == "no"):
            return f"it does not say {change.name} {change.target}"
        return None
    if not all(_says(words, stem) for stem in _stems(change.target)):
        return f"it does not say {change.name} {change.target}"
    return None


def _unasked(
    pair: LabelPair, words: list[str], vocabulary: Iterable[AttributeChange]
) -> str | None:
    """A word that says a value which is not among the pair's new ones."""
    wanted: Set[str] = {stem for change in pair.changes for stem in _stems(change.target)}
    for change in vocabulary:
        for value in (change.source, change.target):
            if value in ("yes", "no") or parse_number(value) is not None:
                continue
            stems = _stems(value)
            if not set(stems) <= wanted and all(_says(words, stem) for stem in stems):
                return f"it says {change.name} {value}, which is not asked for"
    return None


def _numbers(words: list[str]) -> list[tuple[Fraction, int]]:
    """Numbers in digits or words, each with the place of the word after it."""
    found: list[tuple[Fraction, int]] = []
    place = 0
    while place < len(words):
        word = words[place]
        number = _CARDINALS.get(word)
        if word[0].isdigit():
            number = Fraction(word)
        elif word == "half":
            number = _HALF
        place += 1
        if number is None:
            continue
        if number.denominator == 1 and words[place : place + 3] in (
            ["and", "a", "half"],
            ["and", "one", "half"],
        ):
            number, place = number + _HALF, place + 3
        found.append((number, place))
    return found


def _stems(text: str) -> list[str]:
    return text.replace("_", " ").replace("-", " ").lower().split()


def _says(words: Iterable[str], stem: str) -> bool:
    """Whether a word, or a part of a hyphened one, begins with the stem ("tucked" says "tuck")."""
    return any(part.startswith(stem) for word in words for part in word.split("-"))
