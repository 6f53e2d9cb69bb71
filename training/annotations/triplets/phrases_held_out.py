"""Wordings of edits that training never shows, by somebody who had not seen those of the phrase bank: they are asked to measure.

No choice may be made on them. What the phrase bank happens to have word for word is left out.
"""

from collections.abc import Mapping

HELD_OUT: Mapping[str, tuple[str, ...]] = {
    "set_number": (
        "with {n} {nouns} in total", "one that has {n} {nouns}, no more and no less",
        "the total number of {nouns} should be {n}", "bring it to a total of {n} {nouns}",
        "where the diver completes {n} {nouns} altogether", "I'm after a dive containing precisely {n} {nouns}",
        "{n} {nouns} overall, whatever this one has", "{noun} count = {n}", "make that {n} {nouns} all told",
        "number of {nouns} has to come out at {n}", "she should do {n} {nouns} from board to water",
    ),
    "set_zero": (
        "no {nouns} at all", "lose the {nouns} completely", "not a single {noun} in it", "strip out every {noun}",
        "{noun}-free", "the same thing minus all the {nouns}", "leave out the {nouns} entirely",
        "one where the diver doesn't do any {nouns}", "there shouldn't be any {nouns}", "{noun} count of nil",
    ),
    "more": (
        "{n} more {nouns} than this one", "add {n} {nouns} to what it has now", "{n} extra {nouns} on top of these",
        "with an additional {n} {nouns} compared to this clip", "+{n} {nouns} relative to this",
        "like this but {n} {nouns} more", "increase the number of {nouns} by {n}", "tack on {n} further {nouns}",
        "whatever this has plus {n} {nouns}", "raise the {noun} count by {n}", "beats this one by {n} {nouns}",
        "the {noun} total should be higher by {n}", "chuck in {n} more {nouns} than we see here",
    ),
    "fewer": (
        "{n} fewer {nouns} than this one", "take away {n} {nouns} from what it has now", "{n} {nouns} less than here",
        "bring the {nouns} down by {n}", "-{n} {nouns} relative to this", "reduce the number of {nouns} by {n}",
        "like this but {n} {nouns} short", "whatever this has minus {n} {nouns}", "knock {n} {nouns} off the current total",
        "lower the {noun} count by {n}", "the {noun} total should be smaller by {n}", "cut {n} {nouns} out of the ones it has",
        "shave off {n} {nouns} compared with this dive", "subtract {n} {nouns} from this clip's tally",
    ),
    "set_value": (
        "same dive, only {value}", "I'd rather see it {value} than {old}", "set {name} = {value}",
        "this one but with the {name} being {value}", "not {old} any more, {value} this time", "{value} for the {name}",
        "turn the {old} into {value}",
    ),
    "not_value": (
        "{name} can be whatever, just not {value}", "no {value} ones", "everything other than {value}", "{name} != {value}",
        "I don't mind the {name} so long as it isn't {value}", "skip the ones that are {value}",
        "exclude {value} for the {name}", "some {name} that's different from {value}", "the {name} must not be {value}",
        "non-{value} only",
    ),
    "swap": (
        "exchange {value} with {other}, whichever it is", "if it's {value} make it {other}, and the other way round",
        "trade {value} for {other} or vice versa", "whichever of {value} and {other} this is, show me the other one",
        "interchange {value} and {other}", "flip between {value} and {other}",
        "was it {value}? then {other}. was it {other}? then {value}", "switch {value} and {other} around",
        "of {value} and {other}, the one this clip doesn't have",
        "turn {value} into {other} and likewise {other} into {value}", "toggle {value}/{other}",
    ),
    "opposite": (
        "opposite of the current {name}", "reverse whatever the {name} is now", "with the {name} the other way round",
        "{name}: opposite of this", "the {name} should be the contrary of what we see here", "turn the {name} on its head",
        "same dive with the {name} flipped over to the opposite", "I want the {name} to be exactly the opposite of this one",
        "opposite choice of {name} please", "whatever the {name} is, give me its opposite",
    ),
    "keep": (
        "keep the {name} as it is", "same {name} as this one", "leave the {name} alone", "no change to the {name}",
        "hold the {name} where it is", "{name}: same as here", "stick with the current {name}", "with an identical {name}",
        "the {name} is fine like that", "retain the {name} from this clip", "matching this one in {name}",
    ),
    "frames": (
        "{} please", "could you dig this out for me: {}", "hey, looking for something like this: {}",
        "ok so what I need is this - {}", "{}, thanks!", "for my highlights reel: {}", "got one like this? {}",
        "coach here, request as follows: {}", "{} if there is such a clip", "next search: {}", "right then, {}, cheers",
    ),
}  # fmt: skip

HELD_OUT_SYNONYMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("position", "pike"): (
        "a jackknife shape", "position B", "a bent-at-the-hips, straight-knees shape", "a folded shape with the legs straight",
    ),
    ("position", "tuck"): (
        "a tight ball", "position C", "a curled-up shape with the knees to the chest", "a balled-up shape",
    ),
    ("position", "straight"): (
        "a layout position", "position A", "a fully stretched body shape", "a shape with no bend at the hips or knees",
    ),
    ("position", "free"): (
        "position D", "a free body shape", "a free-choice position", "a free combination of body positions",
    ),
    ("take_off", "forward"): (
        "a forward-group take-off", "a facing-the-pool, front-rotating take-off", "a front-facing start spinning forwards",
        "a take-off facing the water and rotating away from the board",
    ),
    ("take_off", "back"): (
        "a backward take-off", "a back-group take-off", "a back-to-the-pool, backward-rotating take-off",
        "a backward-facing start spinning backwards", "a take-off facing the board and rotating away from it",
    ),
    ("take_off", "reverse"): (
        "a gainer take-off", "a reverse-group take-off", "a facing-the-pool, backward-rotating take-off",
        "a front-facing start spinning back towards the board", "a take-off facing the water and rotating back at the board",
    ),
    ("take_off", "inward"): (
        "a cutaway take-off", "an inward-group take-off", "a back-to-the-pool, forward-rotating take-off",
        "a backward-facing start spinning in towards the board", "a take-off facing the board and rotating towards it",
    ),
}  # fmt: skip
