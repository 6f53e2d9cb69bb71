"""Imported classification heads: the weights and the file that names their classes must agree."""

from pathlib import Path

from torch import nn

from encoders.files import parse_json
from encoders.video_encoder.pretrained.aim_weights import SourceWeights


def read_head(
    source: SourceWeights, *, labels_path: Path | None, width: int
) -> tuple[nn.Linear | None, tuple[str, ...] | None, str]:
    """The classification head with its labels, and what to say of it."""
    if source.head is None:
        if labels_path is not None:
            raise ValueError(f"{source.described} has no classification head; drop --labels")
        return None, None, "none"
    weight = source.head["weight"]
    if weight.shape[1] != width:
        raise ValueError(
            f"{source.described}: the classification head has shape {tuple(weight.shape)}; width is {width}"
        )
    labels = source.labels if labels_path is None else read_labels(labels_path)
    if labels is None:
        return None, None, f"{len(weight)} classes, left out: give their names with --labels"
    if len(labels) != len(weight):
        where = labels_path or source.described
        raise ValueError(f"{where} names {len(labels)} classes; the head has {len(weight)}")
    head = nn.Linear(width, len(labels))
    head.load_state_dict(dict(source.head))
    return head, labels, f"{len(labels)} classes"


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names in the order of the head's outputs: {name: index} as JSON, or one name per line."""
    text = path.read_text()
    if path.suffix != ".json":
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        names = _labels_of_json(path, text)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names {twice[0]!r} more than once")
    return tuple(names)


def _labels_of_json(path: Path, text: str) -> list[str]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(type(n) is int for n in values.values()):
        raise ValueError(f"{path} must be a JSON object of class name -> class index")
    if sorted(values.values()) != list(range(len(values))):
        raise ValueError(f"{path}: the class indices must be 0 ... {len(values) - 1}, each once")
    return sorted(values, key=values.__getitem__)
