"""Checks that a generated sentence states exactly the changes of a label pair.

Strict on purpose: a refused sentence costs one phrasing (a template replaces it), a wrong one harms
training. So a sentence states new values only, absolute numbers, and nothing else.
"""

import re
from collections.abc import Iterable, Set
from fractions import Fraction

from encoders.query_encoder.factors import parse_number
from training.annotations.labels.pairs import AttributeChange, LabelPair

MAX_WORDS = 30
"""Longest text that the text encoder was trained on, in words."""

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
    """The reason why the sentence does not state the pair's changes; None if it does.

    `vocabulary` holds the changes of all pairs, whose other values a sentence must not state.
    """
    words = _WORD.findall(sentence.lower())
    if not words or len(words) > MAX_WORDS or not sentence.isprintable():
        return f"it has {len(words)} words on its line; 1 to {MAX_WORDS} are allowed"
    values = {value for change in pair.changes for value in (change.source, change.target)}
    for label in {pair.source_label, pair.target_label} - values:
        if re.search(rf"\b{re.escape(label.lower())}\b", sentence.lower()):
            return f"it names the label {label}"
    if relative := _RELATIVE & set(words):
        return f"it is relative ({sorted(relative)[0]!r}); new values must be absolute"
    numbers = _numbers(words)
    for change in pair.changes:
        if reason := _unsaid(change, words, numbers):
            return reason
    new_numbers = {number for c in pair.changes if (number := parse_number(c.target)) is not None}
    wrong = [number for number, _ in numbers if number not in new_numbers]
    if wrong:
        return f"it says the number {float(wrong[0]):g}, which is not a new value"
    if len([number for number, _ in numbers if number]) != len(
        [c for c in pair.changes if parse_number(c.target)]
    ):
        return "it does not say exactly one number per new numeric value"
    return _unasked(pair, words, vocabulary)


def _unsaid(
    change: AttributeChange, words: list[str], numbers: list[tuple[Fraction, int]]
) -> str | None:
    """The reason why a change is not stated; None if it is."""
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
    """The reason why the sentence states a value that is not among the pair's new ones; None if it does not."""
    new_stems: Set[str] = {stem for change in pair.changes for stem in _stems(change.target)}
    for change in vocabulary:
        for value in (change.source, change.target):
            if value in ("yes", "no") or parse_number(value) is not None:
                continue
            stems = _stems(value)
            if not set(stems) <= new_stems and all(_says(words, stem) for stem in stems):
                return f"it says {change.name} {value}, which is not asked for"
    return None


def _numbers(words: list[str]) -> list[tuple[Fraction, int]]:
    """Numbers in digits or words, each with the position of the next word."""
    numbers: list[tuple[Fraction, int]] = []
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
        numbers.append((number, place))
    return numbers


def _stems(text: str) -> list[str]:
    return text.replace("_", " ").replace("-", " ").lower().split()


def _says(words: Iterable[str], stem: str) -> bool:
    """Whether a word, or a part of a hyphened one, begins with the stem ("tucked" says "tuck")."""
    return any(part.startswith(stem) for word in words for part in word.split("-"))
