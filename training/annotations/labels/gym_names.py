"""Parser of gymnastics element names: apparatus, element, turns, twists, take-off, position.

Names are FineGym's: "(FX) double salto backward tucked with 1 twist". Elements of one family (saltos,
turns, leaps, circles, ...) get the same attribute names, so that an edit can lead between them; an attribute that the
name does not mention is absent, or "0" for the counts of its family.
"""

import re
from collections.abc import Callable

APPARATUS = {"VT": "vault", "FX": "floor", "BB": "beam", "UB": "bars"}

_NAME = re.compile(r"\((?P<apparatus>VT|FX|BB|UB)\)\s*(?P<rest>\S.*)")
_COUNT = re.compile(r"(\d+(?:\.\d+)?) (turn|twist)( or more)?")
_PARENTHESES = re.compile(r"\([^)]*\)")
_POSITIONS = (
    ("stretched", "straight"), ("tucked", "tuck"), ("piked", "pike"), ("straddled", "straddle"),
)  # fmt: skip
"""The sport's word and the word that dives use for the same position."""
_STANDS = (
    ("free leg held upward", "free leg up"),
    ("heel of free leg forward at horizontal", "free leg forward"),
    ("tuck stand", "tuck stand"),
    ("below horizontal", "free leg low"),
)
_LANDINGS = (
    ("one or both feet", "usual"),
    ("both feet", "both feet"),
    ("step out", "step out"), ("step-out", "step out"), ("cross stand", "cross stand"),
    ("side stand", "side stand"), ("cross position", "cross position"), ("hang on high bar", "hang"),
)  # fmt: skip
# The first match in a name is its element, so longer names come before those that they contain.
_LEAPS = (
    "switch leap", "split leap", "split ring jump", "straddle pike", "split jump", "johnson", "stag jump",
    "sissone", "sheep jump", "wolf hop or jump",
)  # fmt: skip
_CIRCLES = ("pike sole circle", "clear hip circle", "clear pike circle", "giant circle", "stalder")
_ACROBATICS = (
    "flic-flac take-off", "aerial walkover", "aerial cartwheel", "flic-flac", "round-off",
)  # fmt: skip
_FLIGHTS = ("counter straddle", "counter piked", "transition flight")


def parse_gym_name(name: str) -> dict[str, str]:
    """The attributes of a name; {} if it is not an element of the four apparatus or its family is unknown."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return {}
    rest = match["rest"]
    # Parentheses only repeat what the name implies, except the swing before a salto on the bars.
    plain = " ".join(_PARENTHESES.sub(" ", rest).split())
    for family, words in _FAMILIES:
        if word := next((word for word in words if word in plain), None):
            attributes = family(plain, word) | _swing(rest)
            return {"apparatus": APPARATUS[match["apparatus"]], **attributes}
    return {}


def _vault(plain: str, _word: str) -> dict[str, str]:
    entry, _, flight = plain.partition(" on, ")
    return {
        "element": "round-off vault",
        "take_off": "flic-flac with a turn" if "turn" in entry else "flic-flac",
        "direction": _direction(flight),
        "position": _first(flight, _POSITIONS, "not said"),
        "turns": _count(flight, "turn"),
    }


def _salto(plain: str, _word: str) -> dict[str, str]:
    if "arabian" in plain:
        return {
            "element": "arabian salto",
            "somersaults": "2" if "double" in plain else "1",
            "take_off": "back with half a twist",
            "position": _first(plain, _POSITIONS, "not said"),
        }
    kind = "turn" if " turn" in plain else "twist"
    return {
        "element": "salto",
        "somersaults": "2" if "double" in plain else "1",
        "direction": _direction(plain),
        "position": _first(plain, _POSITIONS, "not said"),
        "twists": _count(plain, kind),
        "landing": _first(plain, _LANDINGS, "feet together"),
    }


def _turn(plain: str, _word: str) -> dict[str, str]:
    return {
        "element": "turn on one leg",
        "turns": _count(plain, "turn"),
        "position": _first(plain, _STANDS, "free leg low"),
    }


def _leap(plain: str, word: str) -> dict[str, str]:
    element = "straddle pike or side split jump" if word == "straddle pike" else word
    position = (
        "ring" if "ring position" in plain else "side" if "side position" in plain else "usual"
    )
    return {"element": element, "turns": _count(plain, "turn"), "position": position}


def _circle(plain: str, word: str) -> dict[str, str]:
    return {"element": word, "direction": _direction(plain), "turns": _count(plain, "turn")}


def _acrobatic(plain: str, word: str) -> dict[str, str]:
    if word == "flic-flac take-off":
        return {
            "element": "walkover", "direction": "forward", "take_off": "flic-flac", "twists": _count(plain, "twist"),
        }  # fmt: skip
    return {"element": word, "landing": _first(plain, _LANDINGS, "usual")}


def _flight(plain: str, word: str) -> dict[str, str]:
    if word != "transition flight":
        position = "straddle" if word == "counter straddle" else "pike"
        return {"element": "counter over high bar", "position": position}
    return {
        "element": word,
        "take_off": "high bar" if "from high bar" in plain else "low bar",
        "landing": "low bar" if "to low bar" in plain else "high bar",
    }


_FAMILIES: tuple[tuple[Callable[[str, str], dict[str, str]], tuple[str, ...]], ...] = (
    (_vault, ("flic-flac on, ", "turn on, ")),
    (_salto, ("salto",)),
    (_leap, _LEAPS),
    (_circle, _CIRCLES),
    (_acrobatic, _ACROBATICS),
    (_flight, _FLIGHTS),
    (_turn, ("turn with", "turn in", "turn on", "turn or more with")),
)


def _count(plain: str, kind: str) -> str:
    for number, word, more in _COUNT.findall(plain):
        if word == kind:
            return f"{float(number):g}{more}"
    return "0"


def _direction(plain: str) -> str:
    match = re.search(r"\b(forward|backward|sideward)\b", plain)
    return match[1] if match else "not said"


def _first(plain: str, words: tuple[tuple[str, str], ...], otherwise: str) -> str:
    return next((value for word, value in words if word in plain), otherwise)


def _swing(rest: str) -> dict[str, str]:
    swing = re.match(r"\((swing (?:forward|backward))", rest)
    return {"take_off": swing[1]} if swing else {}
