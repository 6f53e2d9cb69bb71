"""Parser of FINA dive numbers: take-off, somersaults, twists, position.

Groups 1 to 4: group, flying (0 or 1), half-somersaults, as in 107b or 1011b. Group 5: 5, take-off, half-somersaults,
half-twists, as in 5253b. Group 6 (armstand): 6, take-off, half-somersaults and, with twists, half-twists, as in 626c or 6243d;
600 is the plain armstand dive.
"""

import re
from dataclasses import dataclass
from typing import Literal

TakeOff = Literal["forward", "back", "reverse", "inward"]
Position = Literal["straight", "pike", "tuck", "free"]

TAKE_OFFS: tuple[TakeOff, ...] = ("forward", "back", "reverse", "inward")
POSITIONS: dict[str, Position] = {"a": "straight", "b": "pike", "c": "tuck", "d": "free"}

DIVE_CLASSES: tuple[str, ...] = (
    "101b", "103b", "105b", "107b", "107c", "109b", "109c", "205b", "205c", "207b", "207c", "303c",
    "305c", "307c", "401b", "403b", "405b", "405c", "407b", "407c", "409c", "5132d", "5152b",
    "5154b", "5156b", "5172b", "5231d", "5233d", "5235d", "5237d", "5251b", "5253b", "5255b",
    "5331d", "5335d", "5337d", "5353b", "5355b", "612b", "614b", "6142d", "6241b", "6243d",
    "6245d", "626b", "626c", "636c",
)  # fmt: skip
"""The dive labels of the released TF-CoVR label list, in the order of their numbers."""

_PLAIN = re.compile(r"(?P<group>[1-4])(?P<flying>[01])(?P<half_somersaults>[1-9]|1[01])")
_TWISTING = re.compile(r"5(?P<group>[1-4])(?P<half_somersaults>[1-9])(?P<half_twists>[1-9])")
_ARMSTAND = re.compile(r"6(?P<group>[1-3])(?P<half_somersaults>[1-9])(?P<half_twists>[1-9])?")
_GRAMMAR = (
    "a dive number is group 1-4, flying 0 or 1, half-somersaults 1-11 (107b); or 5, take-off 1-4, half-somersaults, "
    "half-twists (5253b); or 6, take-off 1-3, half-somersaults, half-twists or nothing (626c, 6243d); then a position a-d, "
    "where d (free) needs twists"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiveNumber:
    """A dive, parsed from its number."""

    code: str
    """The dive number in lower case."""
    take_off: TakeOff
    armstand: bool
    flying: bool
    half_somersaults: int
    half_twists: int
    position: Position

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the dive, as stored in clips.parquet: {"take_off": "back", "somersaults": "2.5", ...}."""
        return {
            "take_off": self.take_off,
            "somersaults": f"{self.half_somersaults / 2:g}",
            "twists": f"{self.half_twists / 2:g}",
            "position": self.position,
            "armstand": "yes" if self.armstand else "no",
        }

    @property
    def enters_head_first(self) -> bool:
        """Whether the hands enter first: every half-somersault swaps head and feet, and an armstand begins upside down."""
        return (self.half_somersaults % 2 == 1) != self.armstand


def parse_dive_number(code: str) -> DiveNumber:
    """The dive of a number with its position letter, in either case; ValueError if it is not one."""
    lower = code.lower()
    number, letter = lower[:-1], lower[-1:]
    if letter not in POSITIONS:
        raise ValueError(f"{code!r} is not a dive number: {_GRAMMAR}")
    if number == "600":
        return DiveNumber(
            code=lower,
            take_off="forward",
            armstand=True,
            flying=False,
            half_somersaults=0,
            half_twists=0,
            position=_checked_position(code, letter, half_twists=0),
        )
    for pattern in (_PLAIN, _TWISTING, _ARMSTAND):
        if match := pattern.fullmatch(number):
            break
    else:
        raise ValueError(f"{code!r} is not a dive number: {_GRAMMAR}")
    parts = match.groupdict()
    half_twists = int(parts.get("half_twists") or 0)
    return DiveNumber(
        code=lower,
        take_off=TAKE_OFFS[int(parts["group"]) - 1],
        armstand=pattern is _ARMSTAND,
        flying=parts.get("flying") == "1",
        half_somersaults=int(parts["half_somersaults"]),
        half_twists=half_twists,
        position=_checked_position(code, letter, half_twists=half_twists),
    )


def _checked_position(code: str, letter: str, *, half_twists: int) -> Position:
    if letter == "d" and half_twists == 0:
        raise ValueError(
            f"{code!r} is not a dive number: position d (free) needs twists; {_GRAMMAR}"
        )
    return POSITIONS[letter]
