"""Edit texts from templates: phrases for the difference between two labels.

The attributes of dives have their own phrases; any other attribute uses generic ones, by the kind of its
values: numbers, yes/no, or words. A phrase is absolute ("with 2.5 twists": the text alone gives the new
value) or relative ("with one more twist", "from the opposite take-off": only text and clip together do).
"""

from collections.abc import Sequence
from fractions import Fraction

from encoders.query_encoder.factors import parse_number
from training.annotations.labels.pairs import AttributeChange, LabelPair, stable_hash

_FRAMES = ("{}", "show {}", "the same {}", "the same action {}", "show the same {}", "now {}")
_JOINTS = (", ", " and ", ", and ")
_CARDINALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_YES_NO = frozenset({"yes", "no"})

_WORD_PHRASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("position", "straight"): ("in a straight position", "straight", "with a straight body"),
    ("position", "pike"): ("in pike", "in the pike position", "piked"),
    ("position", "tuck"): ("in tuck", "in the tuck position", "tucked"),
    ("position", "free"): ("in a free position", "with free position"),
    ("armstand", "yes"): ("as an armstand", "from an armstand", "starting in an armstand"),
    ("armstand", "no"): ("without the armstand", "from the feet, not an armstand", "not as an armstand"),
}  # fmt: skip

# The same phrase for both directions: the target depends on the clip alone, which adding one text vector
# to every clip vector cannot model.
_SWAPS: dict[tuple[str, frozenset[str]], tuple[str, ...]] = {
    ("position", frozenset({"pike", "tuck"})): (
        "with pike and tuck swapped", "in the other one of pike and tuck", "swapping tuck and pike",
    ),
    ("take_off", frozenset({"forward", "back"})): (
        "from the opposite take-off", "taking off the opposite way", "with the opposite take-off",
    ),
    ("take_off", frozenset({"reverse", "inward"})): (
        "from the opposite take-off", "taking off the opposite way", "with the opposite take-off",
    ),
}  # fmt: skip


def number_words(number: Fraction) -> str | None:
    """5/2 -> "two and a half"; None if it has no short form in words."""
    whole, rest = divmod(number, 1)
    if whole >= len(_CARDINALS) or rest not in (0, Fraction(1, 2)):
        return None
    if rest == 0:
        return _CARDINALS[int(whole)]
    return f"{_CARDINALS[int(whole)]} and a half" if whole else "half"


def absolute_phrases(change: AttributeChange) -> tuple[str, ...]:
    """Phrases that give the new value without the clip."""
    number = parse_number(change.target)
    if number is not None:
        return _counted(number, change.target, change.name)
    if phrases := _WORD_PHRASES.get((change.name, change.target)):
        return phrases
    if change.name == "take_off":
        article = "an" if change.target[:1] in "aeiou" else "a"
        return (
            f"from {article} {change.target} take-off",
            f"with {article} {change.target} take-off",
            f"taking off {change.target}",
        )
    name, value = _words(change.name), _words(change.target)
    if {change.source, change.target} == _YES_NO:
        return (f"with {name}",) if value == "yes" else (f"without {name}", f"with no {name}")
    return (f"with {name} {value}", f"with {value} as the {name}", f"with the {name} being {value}")


def relative_phrases(change: AttributeChange) -> tuple[str, ...]:
    """Phrases that need the clip to be understood; empty if these values have none."""
    if swap := _SWAPS.get((change.name, frozenset({change.source, change.target}))):
        return swap
    source, target = parse_number(change.source), parse_number(change.target)
    if source is None or target is None or source == target:
        return ()
    step = abs(target - source)
    singular, plural = noun_forms(change.name)
    more = target > source
    word = number_words(step)
    if step == Fraction(1, 2):
        side = "more" if more else "less"
        return (f"with half {_article(singular)} {singular} {side}", f"with 0.5 {plural} {side}")
    if step == 1:
        if more:
            return (
                f"with one more {singular}",
                f"with 1 more {singular}",
                f"with one {singular} more",
            )
        return (
            f"with one {singular} less",
            f"with one fewer {singular}",
            f"with 1 {singular} less",
        )
    side = "more" if more else "fewer"
    digits = f"{float(step):g}"
    phrases = [f"with {digits} {side} {plural}"]
    if word is not None:
        phrases.append(f"with {word} {side} {plural}")
    return tuple(phrases)


def edit_text(pair: LabelPair, *, choice: int, relative_share: float) -> str:
    """One phrasing of the pair's changes, selected by `choice` (64 random bits).

    `relative_share` is the fraction of changes phrased relative to the query clip, where that is possible.
    """
    order = list(pair.changes)
    if stable_hash("order", choice) % 2:
        order.reverse()
    parts = []
    for change in order:
        is_relative = stable_hash("relative", choice, change.name) / 2**64 < relative_share
        phrases = relative_phrases(change) if is_relative else ()
        parts.append(
            _pick(phrases or absolute_phrases(change), stable_hash("phrase", choice, change.name))
        )
    text = _pick(_JOINTS, stable_hash("joint", choice)).join(parts)
    return _pick(_FRAMES, stable_hash("frame", choice)).format(text)


def _counted(number: Fraction, digits: str, name: str) -> tuple[str, ...]:
    singular, plural = noun_forms(name)
    if number == 0:
        return (f"without {plural}", f"with no {plural}", f"with 0 {plural}")
    word = number_words(number)
    phrases = [f"with {digits} {singular if number == 1 else plural}"]
    if number == Fraction(1, 2):
        phrases.append(f"with half {_article(singular)} {singular}")
    elif word is not None:
        phrases.append(f"with {word} {singular if number == 1 else plural}")
    return tuple(phrases)


def noun_forms(name: str) -> tuple[str, str]:
    """(singular, plural) of an attribute that counts something: "twists" -> ("twist", "twists")."""
    many = _words(name)
    for prefix in ("num ", "number of "):
        many = many.removeprefix(prefix)
    if not many.endswith("s"):
        return many, many + "s"
    return many.removesuffix("s"), many


def _article(noun: str) -> str:
    return "an" if noun[:1] in "aeiou" else "a"


def _words(text: str) -> str:
    return " ".join(text.replace("_", " ").split())


def _pick(options: Sequence[str], choice: int) -> str:
    return options[choice % len(options)]
