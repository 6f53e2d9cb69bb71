"""Edit texts as people type them, each once: two changes of a dive or a gymnastics element, in every order and wording."""

import itertools

_COUNTS = ("half a", "one", "1.5", "2", "2.5", "3", "3.5", "4", "4.5")
_TAKE_OFFS = ("forward", "back", "reverse", "inward")
_POSITIONS = ("straight", "pike", "tuck", "free")
_ELEMENTS = (
    "split leap", "switch leap", "ring leap", "stag jump", "wolf jump", "sissonne", "straddle jump", "cat leap", "round-off",
    "flic-flac", "back handspring", "front walkover", "free aerial", "arabian", "giant circle", "stalder", "toe-on circle",
    "clear hip circle", "transition flight", "double salto", "layout salto", "handstand", "side somi", "full turn",
)  # fmt: skip
_APPARATUS = ("beam", "floor", "vault", "uneven bars")
_CHANGES: tuple[tuple[str, ...], ...] = (
    (*(f"with {n} twist{'s' * (n[0] in '1234')}" for n in _COUNTS), "without twists", "with no twist"),
    tuple(f"with {n} somersault{'s' * (n[0] in '1234')}" for n in _COUNTS),
    tuple(p.format(t) for t in _TAKE_OFFS for p in ("from {} take-off", "taking off {}", "{} take-off")),
    tuple(p.format(w) for w in _POSITIONS for p in ("in {}", "in {} position", "{} instead")),
    tuple(p.format(e) for e in _ELEMENTS for p in ("with a {}", "ending in a {}")),
    tuple(f"on the {a}" for a in _APPARATUS),
)  # fmt: skip
_FRAMES = ("{}", "show {}", "the same {}", "the same dive {}", "show the same {}", "now {}")
_JOINTS = (", ", " and ")
_PAIRS = [
    pair
    for first, second in itertools.permutations(_CHANGES, 2)
    for pair in itertools.product(first, second)
]
NUM_TEXTS = len(_PAIRS) * len(_FRAMES) * len(_JOINTS)
_STRIDE = 7919
"""Prime, and no factor of the number of texts: neighbours differ in everything."""


def edit_text(number: int) -> str:
    """Different numbers below NUM_TEXTS give different texts."""
    if not 0 <= number < NUM_TEXTS:
        raise ValueError(f"number is {number}; there are {NUM_TEXTS} texts")
    rest, frame = divmod(number * _STRIDE % NUM_TEXTS, len(_FRAMES))
    pair, joint = divmod(rest, len(_JOINTS))
    return _FRAMES[frame].format(_JOINTS[joint].join(_PAIRS[pair]))
