"""Numbers in edit texts: as words, for encoders that read words better, and as counts of a kind (how many of what).

A count is one of 48 codes: absolute, more or less; times 0, 0.5, ... 7.5 (which stands for all above). 0 = nothing is counted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

KINDS = ("twists", "somersaults", "turns", "others")
NUM_CODES = 48

_NUM_VALUES = 16
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER = re.compile(r"(?<![\w.])(\d{1,2})(?:\.([05])0*)?(?![\w]|\.\d)")
_RELEASED_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")
_RELEASED_MARKS = re.compile(r"[!\"()*#:;~]")
_SPACES = re.compile(r"\s{2,}")

# A number, or letters and digits that hang together ("5253b", "2.5m").
_WORD = re.compile(r"[0-9]+(?:\.[0-9]+)?(?![\w.]*\w)|[^\W_]+(?:\.[^\W_]+)*")
_DIGITS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?")
_KIND_OF_NOUN = {
    **dict.fromkeys(("twist",), 0),
    **dict.fromkeys(("somersault", "salto", "flip"), 1),
    **dict.fromkeys(("turn", "rotation", "spin", "pirouette"), 2),
}
_VALUES = {word: Fraction(n) for n, word in enumerate(_ONES[:11])} | {
    "single": Fraction(1),
    "double": Fraction(2),
    "triple": Fraction(3),
    "quadruple": Fraction(4),
}
# Words that are a number only before something that is known to be counted.
_WEAK_VALUES = {"a": 1, "an": 1, "another": 1, "no": 0, "without": 0}
_MORE = frozenset({"more", "extra", "additional", "further", "another"})
_LESS = frozenset({"less", "fewer"})
_BREAKS = frozenset({"and", "with", "from", "in", "now", "not", "but", "then", "to", "of"})
_WORDS_TO_NOUN = 4


def number_to_words(whole: int, *, has_half: bool) -> str:
    """0..99 and their halves in words: (2, half) -> "two and a half", (0, half) -> "half"."""
    if whole == 0 and has_half:
        return "half"
    if whole < 20:
        words = _ONES[whole]
    else:
        words = _TENS[whole // 10] + (f" {_ONES[whole % 10]}" if whole % 10 else "")
    return f"{words} and a half" if has_half else words


def normalize_text(text: str, *, max_words: int = 30) -> str:
    """Numbers become words, then lower case, then the first words; "5253B" and "1.25" are not counts and stay."""
    spoken = _NUMBER.sub(
        lambda match: number_to_words(int(match[1]), has_half=match[2] == "5"), text
    )
    return " ".join(spoken.lower().split()[:max_words])


def normalize_as_released(text: str, *, max_words: int = 30) -> str:
    """Exactly as TF-CoVR's code: only 0.5 ... 7.0 become words, and the marks !"()*#:;~ become spaces.

    Words end at a space alone: a tab, a line break or a no-break space between two letters is part of a word.
    """

    def spoken(match: re.Match[str]) -> str:
        value = float(match[0])
        if not 0.5 <= value <= 7 or value % 0.5:
            return match[0]
        return number_to_words(int(value), has_half=value % 1 != 0)

    lower = _RELEASED_NUMBER.sub(spoken, text).lower()
    spaced = _SPACES.sub(" ", _RELEASED_MARKS.sub(" ", lower)).rstrip("\n").strip(" ")
    return " ".join(spaced.split(" ")[:max_words])


@dataclass(frozen=True, slots=True)
class Count:
    """A count that a text names: so many, so many more, or so many fewer."""

    value: Fraction
    sense: Literal["absolute", "more", "fewer"]


def read_counts(text: str) -> dict[str, Count]:
    """By kind, the last count of it that the text names; counts of 7.5 and above are left out, since a code has them as one."""
    senses: tuple[Literal["absolute", "more", "fewer"], ...] = ("absolute", "more", "fewer")
    counts = {}
    for kind, code in zip(KINDS, count_codes(text), strict=True):
        sense, index = divmod(code - 1, _NUM_VALUES)
        if code and index < _NUM_VALUES - 1:
            counts[kind] = Count(Fraction(index, 2), senses[sense])
    return counts


def kind_counted(name: str) -> str:
    """The kind of counts that an attribute of this name has."""
    return KINDS[_KIND_OF_NOUN.get(name.removesuffix("s"), len(KINDS) - 1)]


def count_codes(text: str) -> list[int]:
    """One code per kind: the last count of it that the text names, in digits or in words.

    "with half a twist more and 2.5 somersaults" -> twists: 0.5 more, somersaults: 2.5.
    """
    codes = [0] * len(KINDS)
    words = _WORD.findall(text.lower())
    place = 0
    while place < len(words):
        value, used, is_weak = _read_value(words, place)
        if value is None:
            place += 1
            continue
        kind, end = _find_noun(words, place + used)
        if kind is None and (is_weak or end == place + used):
            place += 1
            continue
        near = {*words[place:end], *words[end : end + 1]}
        sense = 1 if near & _MORE else 2 if near & _LESS else 0
        index = min(int(value * 2), _NUM_VALUES - 1)
        codes[len(KINDS) - 1 if kind is None else kind] = 1 + sense * _NUM_VALUES + index
        place += used
    return codes


def _read_value(words: Sequence[str], place: int) -> tuple[Fraction | None, int, bool]:
    """The number that stands at a place, how many words it takes, and whether it needs a known noun to be one."""
    word = words[place]
    if word == "half":
        return Fraction(1, 2), 2 if words[place + 1 : place + 2] in (["a"], ["an"]) else 1, False
    if word in _WEAK_VALUES:
        return Fraction(_WEAK_VALUES[word]), 1, True
    value = Fraction(word) if _DIGITS.fullmatch(word) else _VALUES.get(word)
    if value is None or value.denominator > 2:
        return None, 1, False
    if list(words[place + 1 : place + 4]) == ["and", "a", "half"]:
        return value + Fraction(1, 2), 4, False
    return value, 1, False


def _find_noun(words: Sequence[str], start: int) -> tuple[int | None, int]:
    """The kind that is counted from here on and the place behind its noun; None and the next place where the noun is not known,
    None and the same place where there is none.
    """
    for place in range(start, min(start + _WORDS_TO_NOUN, len(words))):
        word = words[place]
        if word in _BREAKS or word in _VALUES or _DIGITS.fullmatch(word):
            break
        kind = _KIND_OF_NOUN.get(word.removesuffix("s"))
        if kind is not None:
            return kind, place + 1
    has_noun = start < len(words) and words[start] not in _BREAKS
    return None, start + has_noun
