"""The released label lists, and the attributes of any label: of dive numbers and of gymnastics names."""

import json
from functools import cache
from pathlib import Path

from training.annotations.labels.dive_numbers import parse_dive_number
from training.annotations.labels.gym_names import parse_gym_name

_DATA = Path(__file__).resolve().parent / "data"


@cache
def released_labels() -> dict[str, int]:
    """The 306 label keys of TF-CoVR -> class index; see data/SOURCES.md."""
    return json.loads((_DATA / "labels_306.json").read_text())


@cache
def gym99_names() -> tuple[str, ...]:
    """The names of FineGym's 99 classes by class number, which is not the numbering of `released_labels`."""
    return tuple((_DATA / "gym99_labels.txt").read_text().splitlines())


def label_attributes(label: str) -> dict[str, str]:
    """The attributes of a dive number or a gymnastics name; {} for any other label, such as a bare class number."""
    if label.startswith("("):
        return parse_gym_name(label)
    try:
        return parse_dive_number(label).attributes
    except ValueError:
        return {}
