"""Phrases for one operation on one factor, as people type them; some are held out of training, to measure wordings never seen.

A phrase is a pattern of {n} (a number), {noun} and {nouns}, {name}, {value}, {old} and {other}.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrases:
    """Patterns of one operation."""

    shown: tuple[str, ...]
    held_out: tuple[str, ...]


PHRASES: Mapping[str, Phrases] = {
    "set_number": Phrases(
        shown=(
            "with {n} {nouns}", "{n} {nouns}", "make it {n} {nouns}", "do {n} {nouns}",
            "change to {n} {nouns}", "{n} {nouns} instead", "{nouns}: {n}", "performed with {n} {nouns}",
            "the number of {nouns} is {n}", "exactly {n} {nouns}", "has {n} {nouns}",
            "with {n} {nouns} rather than {m}", "{n} {nouns}, not {m}", "doing {n} {nouns}",
            "turn it into {n} {nouns}", "from {m} to {n} {nouns}", "not {m} but {n} {nouns}",
        ),
        held_out=(
            "I want {n} {nouns}", "it should have {n} {nouns}", "{n} {nouns} please",
            "let there be {n} {nouns}", "the {noun} count is {n}", "{n} {nouns} this time",
        ),
    ),
    "set_zero": Phrases(
        shown=(
            "no {nouns}", "without {nouns}", "with no {nouns}", "with zero {nouns}", "without any {nouns}",
            "leave out the {nouns}", "remove the {nouns}", "no {noun} at all", "0 {nouns}", "don't do {nouns}",
            "remove all {nouns}", "there are no {nouns}",
        ),
        held_out=("drop the {nouns}", "not a single {noun}", "free of {nouns}", "skip the {nouns}"),
    ),
    "more": Phrases(
        shown=(
            "with {n} more {nouns}", "{n} more {nouns}", "{n} {nouns} more", "{n} extra {nouns}", "add {n} {nouns}",
            "with {n} additional {nouns}", "{n} {nouns} more than this", "adding {n} {nouns}",
            "{n} further {nouns}", "with {n} extra {nouns}",
        ),
        held_out=(
            "plus {n} {nouns}", "increase the {nouns} by {n}", "{n} {nouns} on top", "throw in {n} more {nouns}",
        ),
    ),
    "fewer": Phrases(
        shown=(
            "with {n} fewer {nouns}", "{n} fewer {nouns}", "{n} {nouns} less", "{n} less {nouns}",
            "remove {n} {nouns}", "take away {n} {nouns}", "with {n} {nouns} less", "{n} {nouns} less than this",
            "taking off {n} {nouns}", "{n} {nouns} fewer",
        ),
        held_out=(
            "minus {n} {nouns}", "reduce the {nouns} by {n}", "subtract {n} {nouns}", "cut {n} {nouns}",
        ),
    ),
    "set_value": Phrases(
        shown=(
            "{value}", "in {value}", "with {value} {name}", "{value} {name}", "with {name} {value}",
            "switch to {value}", "make it {value}", "change the {name} to {value}", "{value} instead", "as {value}",
            "in a {value} {name}", "the {name} is {value}", "{name}: {value}", "from {old} to {value}",
            "{value} instead of {old}", "{value}, not {old}", "turn it into {value}", "not {old} but {value}",
        ),
        held_out=(
            "let it be {value}", "{value} please", "I would rather see {value}", "find it in {value}",
            "{value} rather than {old}", "the {name} should be {value}",
        ),
    ),
    "not_value": Phrases(
        shown=(
            "not {value}", "not in {value}", "anything but {value}", "other than {value}", "no {value}",
            "never {value}", "without the {value} {name}",
        ),
        held_out=("any {name} except {value}", "avoid {value}"),
    ),
    "swap": Phrases(
        shown=(
            "with {value} and {other} swapped", "swap {value} and {other}", "swapping {value} and {other}",
            "in the other one of {value} and {other}", "exchange {value} and {other}", "the other of {value} and {other}",
        ),
        held_out=("{value} becomes {other} and {other} becomes {value}", "interchange {value} with {other}"),
    ),
    "opposite": Phrases(
        shown=(
            "with the opposite {name}", "from the opposite {name}", "the other {name}", "the opposite {name}",
            "{name} the opposite way", "{name} the other way round", "reverse the {name}",
        ),
        held_out=("flip the {name}", "invert the {name}"),
    ),
    "keep": Phrases(
        shown=("keep the {name}", "same {name}", "with the same {name}", "the {name} stays"),
        held_out=("do not change the {name}", "leave the {name} as it is"),
    ),
}  # fmt: skip

FRAMES = Phrases(
    shown=(
        "{}", "{}", "show {}", "the same {}", "the same but {}", "same dive {}", "now {}", "show the same {}",
        "as here, {}", "find {}",
    ),
    held_out=("can you show this {}", "like this one, only {}", "please {}", "similar to this, {}"),
)  # fmt: skip

JOINTS = (", ", " and ", ", and ", " but ", "; ", " with ")

SYNONYMS: Mapping[tuple[str, str], Phrases] = {
    ("position", "pike"): Phrases(
        shown=("piked", "pike", "the pike position", "a pike"), held_out=("bent at the hips",)
    ),
    ("position", "tuck"): Phrases(
        shown=("tucked", "tuck", "the tuck position", "a tuck"), held_out=("curled up in a ball",)
    ),
    ("position", "straight"): Phrases(
        shown=("straight", "a straight position", "layout", "stretched"),
        held_out=("fully extended",),
    ),
    ("position", "free"): Phrases(shown=("free", "a free position"), held_out=("free style",)),
    ("take_off", "forward"): Phrases(
        shown=("forward", "forwards", "a forward take-off"), held_out=("a front take-off",)
    ),
    ("take_off", "back"): Phrases(
        shown=("back", "backward", "backwards", "a back take-off"), held_out=("a rear take-off",)
    ),
}
"""Other words for a value of a dive; every other value goes by its own name."""

OPPOSITES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "take_off": (("forward", "back"), ("reverse", "inward")),
    "direction": (("forward", "backward"),),
}
"""Pairs of values that "the opposite" swaps; a factor of exactly two values needs no entry."""
