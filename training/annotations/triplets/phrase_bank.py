"""Phrases for one operation on one factor, as people type them; some are held out of training: val for choices, held_out to measure.

A phrase is a pattern of {n} (a number), {m} (another), {noun} and {nouns}, {name}, {value}, {old} and {other}. Besides those here, three
authors wrote for training (`data/`), and a fourth, who had seen nothing of it, what is held out: no choice was made on that. The four
are personas of a language model, so the held-out ones tell how new wordings are read, not how real users write.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrases:
    """Patterns of one operation: those of training, those that choices are made on, and those that are asked in the end."""

    shown: tuple[str, ...]
    val: tuple[str, ...]
    held_out: tuple[str, ...]


def _each(patterns: Iterable[str], words: str) -> tuple[str, ...]:
    """Every pattern with every one of the words, which commas separate, in place of its VERB."""
    return tuple(p.replace("VERB", word.strip()) for word in words.split(",") for p in patterns)


def _wordings(author: str) -> dict[str, Any]:
    path = Path(__file__).resolve().parent / "data" / f"{author}.json"
    return json.loads(path.read_text())


_AUTHORS = [_wordings(author) for author in ("coach", "editor", "fans")]
_HELD_OUT = _wordings("held_out")


def _with_authors(shown: tuple[str, ...], *path: str) -> tuple[str, ...]:
    """What is shown, and twice what the authors wrote: theirs are more natural, ours more."""
    found = []
    for author in _AUTHORS:
        part: Any = author
        for key in path:
            part = part[key]
        found += part
    return (*shown, *(2 * [phrase for phrase in dict.fromkeys(found) if phrase not in shown]))


_SHOWN: Mapping[str, tuple[str, ...]] = {
    "set_number": (
        "with {n} {nouns}", "{n} {nouns}", "{n} {nouns} instead", "{nouns}: {n}", "exactly {n} {nouns}",
        "has {n} {nouns}", "with {n} {nouns} rather than {m}", "{n} {nouns}, not {m}", "doing {n} {nouns}",
        "from {m} to {n} {nouns}", "not {m} but {n} {nouns}", "now it has {n} {nouns}", "a total of {n} {nouns}",
        "there are {n} {nouns}", "{n} {nouns} in total", "where there are {n} {nouns}", "{n} {nouns} in place of {m}",
        "replace {m} {nouns} with {n}", "go from {m} {nouns} to {n}", "containing {n} {nouns}",
        "a version with {n} {nouns}", "with the {nouns} at {n}", "one that has {n} {nouns}", "consisting of {n} {nouns}",
        "{n} {nouns} where it had {m}", "a dive of {n} {nouns}", "the number of {nouns} is {n}", "{n} {nouns} altogether",
        "{n} {nouns} all in all", "the total is {n} {nouns}", "with {n} {nouns} in it", "featuring {n} {nouns}",
        "{noun} number {n}", "number of {nouns}: {n}", "{nouns} = {n}", "{nouns} {n}", "{n}x {noun}", "{n} complete {nouns}",
        "the {nouns} are {n}", "with a count of {n} {nouns}", "{n} {nouns} precisely", "just {n} {nouns}",
        "only {n} {nouns}", "{n} {nouns} exactly", "the {noun} number should read {n}", "that has got {n} {nouns}",
        "a {n} {noun} version", "the {n} {noun} one", "with {n} {nouns} for a change", "as many as {n} {nouns}",
        "{n} {nouns} and no more", "of {n} {nouns}", "{n} of the {nouns}", "this time {n} {nouns}", "in {n} {nouns}",
        *_each(("VERB {n} {nouns}", "VERB {n} {nouns} instead", "VERB {n} {nouns}, not {m}"),
               "make it, do, change to, use, give it, try, turn it into, perform, show, take, choose, set it to, finish, switch to,"
               "execute, get, he does, she does, they do, it does, it has, he performs, she makes, that shows, complete"),
        *_each(("VERB the {nouns} to {n}", "VERB the {noun} count to {n}"), "set, change, fix, switch, bring, alter, put, adjust, move"),
        *_each(("VERB with {n} {nouns}",), "performed, done, executed, finished, carried out, one, completed, ending, the version"),
    ),
    "set_zero": (
        "no {nouns}", "without {nouns}", "with no {nouns}", "with zero {nouns}", "without any {nouns}", "no {noun} at all",
        "0 {nouns}", "don't do {nouns}", "there are no {nouns}", "not even one {noun}", "lacking {nouns}", "never {noun}",
        "without the {nouns}", "devoid of {nouns}", "not any {nouns}", "has no {nouns}", "nothing of the {nouns}",
        "the {nouns} are gone", "zero {nouns}", "a dive that has no {nouns}", "doesn't {noun}", "take all {nouns} away",
        "no {nouns} please", "{nouns}: none", "{nouns}: 0", "minus all the {nouns}", "no {nouns} whatsoever", "{noun}less",
        "all {nouns} removed", "but no {nouns}", "and no {nouns}", "with the {nouns} removed", "with the {nouns} left out",
        "no {noun}", "without a {noun}", "without {nouns} at all", "there is no {noun} in it", "no {nouns} in it", "zero {noun}",
        "with nothing in the way of {nouns}", "does not have any {nouns}", "the {nouns} have gone", "{nouns} not wanted",
        *_each(("VERB the {nouns}", "VERB all {nouns}", "VERB all the {nouns}", "VERB every {noun}"),
               "leave out, remove, get rid of, omit, take out, eliminate, forget about, delete, do away with, ditch, cancel, scrap,"
               "throw away, discard, leave off, dispense with, erase, kill, wipe out, do without, refrain from, give up, banish"),
    ),
    "more": (
        "with {n} more {nouns}", "{n} more {nouns}", "{n} {nouns} more", "{n} extra {nouns}", "with {n} additional {nouns}",
        "{n} {nouns} more than this", "{n} further {nouns}", "with {n} extra {nouns}", "{n} {nouns} extra",
        "higher by {n} {nouns}", "{n} {nouns} in addition", "{n} {nouns} above this", "beyond this by {n} {nouns}",
        "with {n} {nouns} added", "+{n} {nouns}", "a higher number of {nouns}, by {n}", "{n} added {nouns}",
        "another {n} {nouns}", "with another {n} {nouns}", "the {nouns} go up by {n}", "exceed it by {n} {nouns}",
        "{n} {nouns} more than here", "{n} {nouns} more than before", "{n} {nouns} more than in the clip", "and {n} more {nouns}",
        "{n} {nouns} beyond this", "{n} {nouns} higher", "{n} {nouns} up", "{n} {nouns} further", "harder by {n} {nouns}",
        "{n} {nouns} longer", "the same plus another {n} {nouns}", "{n} {nouns} in excess of this", "with {n} {nouns} on it",
        "this and {n} {nouns}", "where {n} {nouns} are added", "{n} {nouns} besides", "more {nouns}, {n} of them",
        "more {nouns}: {n}", "a surplus of {n} {nouns}", "{n} {nouns} ahead of this", "an extra {n} {nouns}", "an additional {n} {nouns}",
        "{n} {nouns} greater", "{n} {nouns} additionally", "supplemented by {n} {nouns}", "raised by {n} {nouns}",
        "extended by {n} {nouns}", "enhanced with {n} {nouns}", "{n} {nouns} past this", "with {n} {nouns} more than he does",
        *_each(("VERB the {nouns} by {n}", "VERB the number of {nouns} by {n}", "VERB it by {n} {nouns}"),
               "raise, lift, push up, crank up, ramp up, extend, expand, grow, scale up, move up, build up, augment, enlarge, hike,"
               "step up, turn up, bring up, take up, upgrade, heighten, dial up, elevate, up"),
        *_each(("VERB {n} {nouns}", "VERB {n} more {nouns}", "VERB another {n} {nouns}", "VERB {n} {nouns} to it"),
               "add, adding, insert, squeeze in, work in, put on, slip in, pile on, attach, fit in, sneak in, stick on, append,"
               "put in, pack in, gain, toss in, give it, drop in, slot in, build in, stack on, pop in, bolt on"),
        *_each(("VERB by {n} {nouns}",), "go up, rise, grow, climb, exceed this, top this, beat this, outdo this, increased"),
    ),
    "fewer": (
        "with {n} fewer {nouns}", "{n} fewer {nouns}", "{n} {nouns} less", "{n} less {nouns}", "with {n} {nouns} less",
        "{n} {nouns} less than this", "{n} {nouns} fewer", "short of it by {n} {nouns}", "take {n} from the {nouns}",
        "{n} {nouns} below this", "with {n} {nouns} removed", "-{n} {nouns}", "a lower number of {nouns}, by {n}",
        "the {nouns} go down by {n}", "with {n} {nouns} missing", "without {n} of the {nouns}", "{n} {nouns} lower",
        "{n} {nouns} fewer than here", "{n} {nouns} fewer than before", "{n} {nouns} less than in the clip", "and {n} fewer {nouns}",
        "{n} {nouns} short of this", "{n} {nouns} down", "easier by {n} {nouns}", "{n} {nouns} shorter", "{n} {nouns} behind this",
        "fewer {nouns}, {n} less", "less {nouns}: {n}", "where {n} {nouns} are missing", "{n} of the {nouns} gone",
        "the same less {n} {nouns}", "this without {n} of its {nouns}", "lowered by {n} {nouns}", "decreased by {n} {nouns}",
        "{n} {nouns} left out", "{n} {nouns} removed", "{n} of the {nouns} taken away", "lacking {n} of the {nouns}",
        "with {n} {nouns} taken off", "{n} {nouns} fewer than he does", "with {n} {nouns} dropped", "{n} {nouns} smaller",
        *_each(("VERB the {nouns} by {n}", "VERB the number of {nouns} by {n}", "VERB it by {n} {nouns}"),
               "lower, decrease, bring down, push down, scale down, shrink, step down, dial down, turn down, take down, downgrade,"
               "lessen, slim down, trim, pare down, tone down, move down, ease, drop, scale back, dial back"),
        *_each(("VERB {n} {nouns}", "VERB {n} of the {nouns}", "VERB {n} {nouns} from it"),
               "remove, take away, taking off, lose, deduct, leave out, shave off, omit, get rid of, knock off, take off, take out,"
               "lop off, shed, eliminate, delete, chop off, leave off, pull out, drop, do without, scrap, erase, withdraw"),
        *_each(("VERB by {n} {nouns}",), "go down, fall, shrink, fall short, decline, come down, lower it, undercut this"),
    ),
    "set_value": (
        "{value}", "in {value}", "with {value} {name}", "{value} {name}", "with {name} {value}", "{value} instead", "as {value}",
        "in a {value} {name}", "the {name} is {value}", "{name}: {value}", "from {old} to {value}", "{value} instead of {old}",
        "{value}, not {old}", "not {old} but {value}", "now {value}", "done {value}", "performed in {value}",
        "replace {old} with {value}", "{value} in place of {old}", "a version in {value}", "with a {value} {name}",
        "one that is {value}", "go from {old} to {value}", "give it a {value} {name}", "the {name} changes to {value}",
        "{value} where it was {old}", "it is {value} now", "shown in {value}", "this is {value}", "a {value} version",
        "{name} = {value}", "{name} {value}", "{value} this once", "the {value} one", "the {value} version", "the one in {value}",
        "with the {name} {value}", "that is {value}", "who is {value}", "the diver is {value}", "he is {value}", "she is {value}",
        "completely {value}", "rather {value}", "only {value}", "using {value}", "while {value}", "executed {value}",
        "done in {value}", "held {value}", "ends up {value}", "if it were {value}", "everything in {value}", "of the {value} kind",
        "{value} and not {old}", "{value}, no longer {old}", "instead of {old}, {value}", "it was {old}, now {value}",
        *_each(("VERB {value}", "VERB {value} instead", "VERB {value}, not {old}"),
               "switch to, make it, turn it into, use, change to, go, try, choose, take, pick, show, do it, perform it, have it,"
               "set it to, prefer, get it, move to, shift to, put it in, be, stay, keep it, render it, see it, give me"),
        *_each(("VERB the {name} to {value}", "VERB the {name} into {value}"), "change, set, switch, turn, adjust, alter, bring, modify, update"),
    ),
    "not_value": (
        "not {value}", "not in {value}", "anything but {value}", "other than {value}", "no {value}", "never {value}",
        "without the {value} {name}", "a {name} that is not {value}", "everything but {value}", "any {name} other than {value}",
        "no longer {value}", "isn't {value}", "don't do it {value}", "a {name} different from {value}", "not the {value} {name}",
        "something other than {value}", "some {name} besides {value}", "not {value} any more", "definitely not {value}",
        "but not {value}", "never in {value}", "without being {value}", "another {name} than {value}", "different from {value}",
        "in a {name} that isn't {value}", "the {name} is not {value}", "the {name} cannot be {value}", "{name}: not {value}",
        "not done {value}", "with no {value}", "all but {value}", "non-{value}", "a different {name} from {value}", "no more {value}",
        "the {name} is anything but {value}", "whatever, just not {value}", "a {name} apart from {value}", "aside from {value}",
        *_each(("VERB {value}", "VERB the {value} {name}"),
               "rule out, stay away from, leave out, ban, refuse, reject, forget, do not use, don't show, remove, no, steer clear of, drop"),
    ),
    "swap": (
        "with {value} and {other} swapped", "in the other one of {value} and {other}", "the other of {value} and {other}",
        "{value} turns into {other} and {other} into {value}", "{value} for {other} and {other} for {value}",
        "{value} instead of {other}, or the other way round", "if {value} then {other}, if {other} then {value}",
        "change {value} to {other} and {other} to {value}", "{value} and {other} trade places", "{value} and {other} exchanged",
        "{value} <-> {other}", "{value} to {other}, {other} to {value}", "whichever of {value} and {other} it is not",
        "{value} where it was {other} and {other} where it was {value}", "{value} and {other} change places",
        "{value} in place of {other}, {other} in place of {value}", "from {value} to {other} or from {other} to {value}",
        "with {value} and {other} reversed", "{value} and {other} switched", "{value} vs {other}: the other one",
        "turn {value} into {other} or {other} into {value}", "not this one of {value} and {other} but the other",
        *_each(("VERB {value} and {other}", "VERB {value} with {other}"), "swap, swapping, exchange, trade, switch, reverse, flip, permute, alternate"),
    ),
    "opposite": (
        "with the opposite {name}", "from the opposite {name}", "the other {name}", "the opposite {name}", "{name} the opposite way",
        "{name} the other way round", "turn the {name} around", "with the {name} reversed", "opposite {name}",
        "switch the {name} to its opposite", "the {name} the other way", "{name} in the other direction", "with a contrary {name}",
        "with the {name} turned around", "the {name} is reversed", "the {name} is the opposite", "from the other {name}",
        "with the {name} mirrored", "the {name} backwards from this", "the {name} in reverse of this", "a mirrored {name}",
        "the reversed {name}", "opposing {name}", "counter {name}", "the {name} is the other way around", "the contrary {name}",
        "exactly the opposite {name}", "in the opposite {name}", "using the opposite {name}", "the {name} facing the opposite way",
        *_each(("VERB the {name}",), "reverse, mirror, swap, switch, turn over, exchange, negate, change around, turn round"),
    ),
    "keep": (
        "same {name}", "with the same {name}", "the {name} stays", "the {name} is unchanged", "{name} as before",
        "with an unchanged {name}", "no change of {name}", "the {name} remains", "the {name} is the same", "{name} as here",
        "without changing the {name}", "{name} like this one", "the {name} stays the same", "identical {name}", "equal {name}",
        "{name} unchanged", "{name} the same", "the {name} as it was", "the {name} doesn't change", "nothing new about the {name}",
        "the {name} stays put", "with its {name}", "with this {name}", "in this {name}", "the same {name} as this", "no other {name}",
        *_each(("VERB the {name}", "VERB this {name}", "VERB the same {name}"),
               "keep, don't touch, hold on to, preserve, don't alter, retain, stick to, stay with, respect, reuse, conserve, copy, hold"),
    ),
}  # fmt: skip

_VAL: Mapping[str, tuple[str, ...]] = {
    "set_number": (
        "I am looking for {n} {nouns}", "go for {n} {nouns}", "the diver completes {n} {nouns}", "the number of {nouns} must be {n}",
        "{n} {nouns} here", "we need {n} {nouns}", "I want {n} {nouns}", "it should have {n} {nouns}", "let there be {n} {nouns}",
        "the {noun} count is {n}",
    ),
    "set_zero": (
        "exclude the {nouns}", "the {nouns} disappear", "none of the {nouns}", "clear of any {nouns}", "drop the {nouns}",
        "not a single {noun}", "free of {nouns}", "skip the {nouns}",
    ),
    "more": (
        "bump the {nouns} up by {n}", "tack on {n} {nouns}", "{n} {nouns} over this one", "boosted by {n} {nouns}",
        "plus {n} {nouns}", "increase the {nouns} by {n}", "{n} {nouns} on top", "throw in {n} more {nouns}",
    ),
    "fewer": (
        "shorten the {nouns} by {n}", "strip {n} {nouns}", "{n} {nouns} under this one", "diminished by {n} {nouns}",
        "minus {n} {nouns}", "reduce the {nouns} by {n}", "subtract {n} {nouns}", "cut {n} {nouns}",
    ),
    "set_value": (
        "I am looking for {value}", "go for {value}", "the {name} must be {value}", "we need {value}", "convert it to {value}",
        "{value} as the {name}", "let it be {value}", "{value} please", "I would rather see {value}", "find it in {value}",
        "{value} rather than {old}", "the {name} should be {value}",
    ),
    "not_value": ("exclude {value}", "whatever {name} but not {value}", "any {name} except {value}", "avoid {value}"),
    "swap": (
        "replace {value} by {other} and vice versa", "{value} and {other} the other way around",
        "{value} becomes {other} and {other} becomes {value}", "interchange {value} with {other}",
    ),
    "opposite": ("change to the contrary {name}", "the {name} goes the opposite direction", "flip the {name}", "invert the {name}"),
    "keep": ("maintain the {name}", "the {name} is not modified", "do not change the {name}", "leave the {name} as it is"),
}  # fmt: skip

PHRASES: Mapping[str, Phrases] = {
    kind: Phrases(shown=_with_authors(shown, kind), val=_VAL[kind], held_out=tuple(_HELD_OUT[kind]))
    for kind, shown in _SHOWN.items()
}

FRAMES = Phrases(
    shown=_with_authors((
        "{}", "{}", "{}", "{}", "{}", "{}", "show {}", "the same {}", "the same but {}", "same dive {}", "now {}", "show the same {}",
        "as here, {}", "find {}", "this dive, {}", "exactly this but {}", "the dive again, {}", "and now {}", "search for {}",
        "a similar dive {}", "as in the clip but {}", "find me the same {}", "would be nice {}", "the one {}", "repeat it {}",
        "again {}", "get me {}", "give me {}", "could it be {}", "everything else equal, {}", "{}, the rest as it is",
        "{}, otherwise the same", "{} and nothing else changed", "what about {}", "how about {}", "maybe {}", "hi, {}", "ok, {}",
        "same thing, {}", "same clip, {}", "a dive like this, {}", "another one, {}", "is there the same {}", "do you have it {}",
        "find a clip {}", "looking for the same {}", "this one but {}", "like that but {}", "but {}", "dive {}", "video: {}",
        "I'd like {}", "I would like to see {}", "we want {}", "let me see {}", "show us {}", "bring up {}", "play {}", "{}!", "{}.",
        "{}?", "{}, if there is one", "{} for comparison", "next, {}", "then {}", "also {}", "instead {}", "actually {}",
        "in the same way {}", "all the same, {}", "identical dive, {}", "one more time, {}", "a clip {}", "any clip {}",
        "all else the same: {}", "change one thing: {}", "only this differs: {}", "a version of this {}", "just {}", "only {}",
    ), "frames"),
    val=(
        "is there one {}", "just like that, {}", "I need this {}", "otherwise identical, {}", "can you show this {}",
        "like this one, only {}", "please {}", "similar to this, {}",
    ),
    held_out=tuple(_HELD_OUT["frames"]),
)  # fmt: skip

JOINTS = (
    ", ",
    " and ",
    ", and ",
    " but ",
    "; ",
    " with ",
    ", also ",
    ". ",
    " plus ",
    ", then ",
    " while ",
)

NOUNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "somersaults": (("flip", "flips"), ("salto", "saltos"), ("rotation", "rotations")),
    "twists": (("full twist", "full twists"), ("screw", "screws")),
}
"""What people call a count besides its own name, one and many."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "take_off": ("takeoff", "start", "departure", "launch"),
    "position": ("body position", "shape", "posture", "body shape"),
}
"""What people call an attribute besides its own name."""

_SYNONYMS: Mapping[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("position", "pike"): (
        (
            "piked", "pike", "the pike position", "a pike", "pike position", "folded at the waist", "jackknifed", "a jackknife",
            "with legs straight and the body folded", "bent over with straight legs", "bent at the waist", "straight legs, bent waist",
            "touching the toes", "with the legs straight and the hips bent", "folded like a knife", "hands to the feet, legs straight",
            "doubled over with straight knees", "folded forward", "legs straight against the chest", "hinged at the waist",
        ),
        ("folded in half", "bent at the hips"),
    ),
    ("position", "tuck"): (
        (
            "tucked", "tuck", "the tuck position", "a tuck", "tuck position", "knees to the chest", "rolled up tight",
            "with the knees pulled in", "hugging the knees", "rounded like a ball", "balled up", "crouched", "with the legs drawn in",
            "holding the shins", "bent knees", "with the knees bent", "curled up", "in a tight bundle", "compact, knees up",
            "grabbing the knees", "knees against the body", "rolled into a ball",
        ),
        ("with bent knees held close", "curled up in a ball"),
    ),
    ("position", "straight"): (
        (
            "straight", "a straight position", "layout", "stretched", "with a straight body", "stretched out", "the body in one line",
            "not bent at all", "laid out", "the layout position", "straight position", "flat as a board", "fully straight", "unbent",
            "with the body in a line", "no bend anywhere", "elongated", "rigid and straight", "long body",
        ),
        ("outstretched", "fully extended"),
    ),
    ("position", "free"): (
        (
            "free", "a free position", "the free position", "free position", "any position", "an optional position", "a loose position",
            "an unrestricted position", "freely", "a mixed position", "a combination of positions", "an open choice of position",
        ),
        ("the free form", "free style"),
    ),
    ("take_off", "forward"): (
        (
            "forward", "forwards", "a forward take-off", "facing forward", "a forward start", "taking off forwards", "front",
            "leaving the board forwards", "a forward-facing take-off", "facing ahead", "looking at the pool", "facing the pool",
            "to the front", "starting forwards", "the forward group", "from a forward approach", "facing out", "going forward",
            "with the face to the pool", "looking forward",
        ),
        ("facing the water", "a front take-off"),
    ),
    ("take_off", "back"): (
        (
            "back", "backward", "backwards", "a back take-off", "facing backwards", "a backward start", "taking off backwards",
            "leaving the board backwards", "a backward-facing take-off", "facing the board", "with the back to the pool",
            "with the back turned to the pool", "starting backwards", "the back group", "facing the platform", "going backwards",
            "to the back", "looking at the board", "facing the tower", "standing backwards",
        ),
        ("facing away from the water", "a rear take-off"),
    ),
    ("take_off", "reverse"): (
        (
            "reverse", "a reverse take-off", "the reverse group", "gainer", "a gainer", "reversed", "forwards but rotating back",
            "rotating back towards the board", "facing forward and turning backwards",
        ),
        ("a reverse start",),
    ),
    ("take_off", "inward"): (
        (
            "inward", "inwards", "an inward take-off", "the inward group", "cutaway", "a cutaway", "rotating towards the board",
            "backwards but rotating forwards", "turning in to the board",
        ),
        ("an inward start",),
    ),
}  # fmt: skip

SYNONYMS: Mapping[tuple[str, str], Phrases] = {
    (name, value): Phrases(
        shown=_with_authors(shown, "synonyms", name, value),
        val=val,
        held_out=tuple(_HELD_OUT["synonyms"][name][value]),
    )
    for (name, value), (shown, val) in _SYNONYMS.items()
}
"""Other words for a value of a dive; every other value goes by its own name."""

OPPOSITES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "take_off": (("forward", "back"), ("reverse", "inward")),
    "direction": (("forward", "backward"),),
}
"""Pairs of values that "the opposite" swaps; a factor of exactly two values needs no entry."""
