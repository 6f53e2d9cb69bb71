"""Phrases for one operation on one factor, as people type them; some are held out of training: val for choices, held_out to measure.

A phrase is a pattern of {n} (a number), {noun} and {nouns}, {name}, {value}, {old} and {other}.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrases:
    """Patterns of one operation: those of training, those that choices are made on, and those that are asked in the end."""

    shown: tuple[str, ...]
    val: tuple[str, ...]
    held_out: tuple[str, ...]


PHRASES: Mapping[str, Phrases] = {
    "set_number": Phrases(
        shown=(
            "with {n} {nouns}", "{n} {nouns}", "make it {n} {nouns}", "do {n} {nouns}",
            "change to {n} {nouns}", "{n} {nouns} instead", "{nouns}: {n}", "performed with {n} {nouns}",
            "the number of {nouns} is {n}", "exactly {n} {nouns}", "has {n} {nouns}",
            "with {n} {nouns} rather than {m}", "{n} {nouns}, not {m}", "doing {n} {nouns}",
            "turn it into {n} {nouns}", "from {m} to {n} {nouns}", "not {m} but {n} {nouns}",
            "set the {nouns} to {n}", "use {n} {nouns}", "now it has {n} {nouns}", "change the {nouns} to {n}",
            "a total of {n} {nouns}", "give it {n} {nouns}", "there are {n} {nouns}", "{n} {nouns} in total",
            "where there are {n} {nouns}", "{n} {nouns} in place of {m}", "replace {m} {nouns} with {n}",
            "go from {m} {nouns} to {n}", "containing {n} {nouns}", "a version with {n} {nouns}",
            "with the {nouns} at {n}", "one that has {n} {nouns}", "consisting of {n} {nouns}",
            "{n} {nouns} where it had {m}", "try {n} {nouns}", "a dive of {n} {nouns}",
        ),
        val=(
            "I am looking for {n} {nouns}", "go for {n} {nouns}", "the diver completes {n} {nouns}",
            "the number of {nouns} must be {n}", "{n} {nouns} here", "we need {n} {nouns}",
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
            "remove all {nouns}", "there are no {nouns}", "get rid of the {nouns}", "omit the {nouns}",
            "take out the {nouns}", "lose the {nouns}", "not even one {noun}", "lacking {nouns}",
            "eliminate the {nouns}", "forget about the {nouns}", "never {noun}", "without the {nouns}",
            "devoid of {nouns}", "delete the {nouns}", "not any {nouns}", "has no {nouns}", "do away with the {nouns}",
            "nothing of the {nouns}", "the {nouns} are gone", "ditch the {nouns}", "stop the {nouns}",
            "zero {nouns}", "a dive that has no {nouns}", "doesn't {noun}", "take all {nouns} away",
        ),
        val=("exclude the {nouns}", "the {nouns} disappear", "none of the {nouns}", "clear of any {nouns}"),
        held_out=("drop the {nouns}", "not a single {noun}", "free of {nouns}", "skip the {nouns}"),
    ),
    "more": Phrases(
        shown=(
            "with {n} more {nouns}", "{n} more {nouns}", "{n} {nouns} more", "{n} extra {nouns}", "add {n} {nouns}",
            "with {n} additional {nouns}", "{n} {nouns} more than this", "adding {n} {nouns}",
            "{n} further {nouns}", "with {n} extra {nouns}", "raise the {nouns} by {n}", "{n} {nouns} extra",
            "raise the number of {nouns} by {n}", "put in {n} more {nouns}", "go up by {n} {nouns}",
            "higher by {n} {nouns}", "{n} {nouns} in addition", "bring the {nouns} up by {n}", "gain {n} {nouns}",
            "append {n} {nouns}", "do {n} {nouns} more", "exceed it by {n} {nouns}", "add {n} to the {nouns}",
            "{n} {nouns} above this", "beyond this by {n} {nouns}", "with {n} {nouns} added", "+{n} {nouns}",
            "a higher number of {nouns}, by {n}", "{n} added {nouns}", "step the {nouns} up by {n}",
            "give it {n} more {nouns}", "another {n} {nouns}", "the {nouns} go up by {n}", "lift the {nouns} by {n}",
        ),
        val=(
            "bump the {nouns} up by {n}", "tack on {n} {nouns}", "{n} {nouns} over this one", "boosted by {n} {nouns}",
        ),
        held_out=(
            "plus {n} {nouns}", "increase the {nouns} by {n}", "{n} {nouns} on top", "throw in {n} more {nouns}",
        ),
    ),
    "fewer": Phrases(
        shown=(
            "with {n} fewer {nouns}", "{n} fewer {nouns}", "{n} {nouns} less", "{n} less {nouns}",
            "remove {n} {nouns}", "take away {n} {nouns}", "with {n} {nouns} less", "{n} {nouns} less than this",
            "taking off {n} {nouns}", "{n} {nouns} fewer", "lower the {nouns} by {n}", "lose {n} {nouns}",
            "lower the number of {nouns} by {n}", "take {n} {nouns} out", "go down by {n} {nouns}",
            "short of it by {n} {nouns}", "bring the {nouns} down by {n}", "deduct {n} {nouns}",
            "leave out {n} {nouns}", "do {n} {nouns} less", "take {n} from the {nouns}", "{n} {nouns} below this",
            "with {n} {nouns} removed", "-{n} {nouns}", "a lower number of {nouns}, by {n}",
            "step the {nouns} down by {n}", "shave off {n} {nouns}", "the {nouns} go down by {n}",
            "decrease the {nouns} by {n}", "omit {n} {nouns}", "get rid of {n} {nouns}", "with {n} {nouns} missing",
            "knock off {n} {nouns}", "without {n} of the {nouns}",
        ),
        val=(
            "shorten the {nouns} by {n}", "strip {n} {nouns}", "{n} {nouns} under this one", "diminished by {n} {nouns}",
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
            "set the {name} to {value}", "use {value}", "change to {value}", "go {value}", "now {value}",
            "done {value}", "performed in {value}", "replace {old} with {value}", "{value} in place of {old}",
            "a version in {value}", "with a {value} {name}", "one that is {value}", "go from {old} to {value}",
            "give it a {value} {name}", "the {name} changes to {value}", "{value} where it was {old}",
            "try {value}", "it is {value} now", "shown in {value}", "this is {value}", "a {value} version",
        ),
        val=(
            "I am looking for {value}", "go for {value}", "the {name} must be {value}", "we need {value}",
            "convert it to {value}", "{value} as the {name}",
        ),
        held_out=(
            "let it be {value}", "{value} please", "I would rather see {value}", "find it in {value}",
            "{value} rather than {old}", "the {name} should be {value}",
        ),
    ),
    "not_value": Phrases(
        shown=(
            "not {value}", "not in {value}", "anything but {value}", "other than {value}", "no {value}",
            "never {value}", "without the {value} {name}", "a {name} that is not {value}", "everything but {value}",
            "rule out {value}", "any {name} other than {value}", "stay away from {value}", "no longer {value}",
            "isn't {value}", "don't do it {value}", "a {name} different from {value}", "not the {value} {name}",
        ),
        val=("exclude {value}", "whatever {name} but not {value}"),
        held_out=("any {name} except {value}", "avoid {value}"),
    ),
    "swap": Phrases(
        shown=(
            "with {value} and {other} swapped", "swap {value} and {other}", "swapping {value} and {other}",
            "in the other one of {value} and {other}", "exchange {value} and {other}", "the other of {value} and {other}",
            "{value} turns into {other} and {other} into {value}", "trade {value} and {other}",
            "{value} for {other} and {other} for {value}", "{value} instead of {other}, or the other way round",
            "switch {value} with {other}", "if {value} then {other}, if {other} then {value}",
            "change {value} to {other} and {other} to {value}", "{value} and {other} trade places",
        ),
        val=("replace {value} by {other} and vice versa", "{value} and {other} the other way around"),
        held_out=("{value} becomes {other} and {other} becomes {value}", "interchange {value} with {other}"),
    ),
    "opposite": Phrases(
        shown=(
            "with the opposite {name}", "from the opposite {name}", "the other {name}", "the opposite {name}",
            "{name} the opposite way", "{name} the other way round", "reverse the {name}",
            "turn the {name} around", "mirror the {name}", "with the {name} reversed", "opposite {name}",
            "switch the {name} to its opposite", "the {name} the other way", "{name} in the other direction",
            "with a contrary {name}", "swap the {name}", "with the {name} turned around", "the {name} is reversed",
        ),
        val=("change to the contrary {name}", "the {name} goes the opposite direction"),
        held_out=("flip the {name}", "invert the {name}"),
    ),
    "keep": Phrases(
        shown=(
            "keep the {name}", "same {name}", "with the same {name}", "the {name} stays", "the {name} is unchanged",
            "don't touch the {name}", "{name} as before", "with an unchanged {name}", "hold on to the {name}",
            "no change of {name}", "preserve the {name}", "the {name} remains", "the {name} is the same",
            "{name} as here", "without changing the {name}", "don't alter the {name}", "{name} like this one",
        ),
        val=("maintain the {name}", "the {name} is not modified"),
        held_out=("do not change the {name}", "leave the {name} as it is"),
    ),
}  # fmt: skip

FRAMES = Phrases(
    shown=(
        "{}", "{}", "{}", "show {}", "the same {}", "the same but {}", "same dive {}", "now {}", "show the same {}",
        "as here, {}", "find {}", "this dive, {}", "exactly this but {}", "the dive again, {}", "and now {}",
        "search for {}", "a similar dive {}", "as in the clip but {}", "find me the same {}", "would be nice {}",
        "the one {}", "repeat it {}", "again {}", "get me {}", "give me {}", "could it be {}", "everything else equal, {}",
    ),
    val=("is there one {}", "just like that, {}", "I need this {}", "otherwise identical, {}"),
    held_out=("can you show this {}", "like this one, only {}", "please {}", "similar to this, {}"),
)  # fmt: skip

JOINTS = (", ", " and ", ", and ", " but ", "; ", " with ", ", also ", ". ")

SYNONYMS: Mapping[tuple[str, str], Phrases] = {
    ("position", "pike"): Phrases(
        shown=(
            "piked", "pike", "the pike position", "a pike", "pike position", "folded at the waist", "jackknifed",
            "with legs straight and the body folded", "bent over with straight legs",
        ),
        val=("folded in half",),
        held_out=("bent at the hips",),
    ),
    ("position", "tuck"): Phrases(
        shown=(
            "tucked", "tuck", "the tuck position", "a tuck", "tuck position", "knees to the chest", "rolled up tight",
            "with the knees pulled in", "hugging the knees", "rounded like a ball",
        ),
        val=("with bent knees held close",),
        held_out=("curled up in a ball",),
    ),
    ("position", "straight"): Phrases(
        shown=(
            "straight", "a straight position", "layout", "stretched", "with a straight body", "stretched out",
            "the body in one line", "not bent at all",
        ),
        val=("outstretched",),
        held_out=("fully extended",),
    ),
    ("position", "free"): Phrases(
        shown=("free", "a free position", "the free position", "free position", "any position"),
        val=("the free form",),
        held_out=("free style",),
    ),
    ("take_off", "forward"): Phrases(
        shown=(
            "forward", "forwards", "a forward take-off", "facing forward", "a forward start", "taking off forwards",
            "leaving the board forwards", "a forward-facing take-off",
        ),
        val=("facing the water",),
        held_out=("a front take-off",),
    ),
    ("take_off", "back"): Phrases(
        shown=(
            "back", "backward", "backwards", "a back take-off", "facing backwards", "a backward start",
            "taking off backwards", "leaving the board backwards", "a backward-facing take-off",
        ),
        val=("facing away from the water",),
        held_out=("a rear take-off",),
    ),
}  # fmt: skip
"""Other words for a value of a dive; every other value goes by its own name."""

OPPOSITES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "take_off": (("forward", "back"), ("reverse", "inward")),
    "direction": (("forward", "backward"),),
}
"""Pairs of values that "the opposite" swaps; a factor of exactly two values needs no entry."""
