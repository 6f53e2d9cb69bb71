"""Assigns train, val and test to labelled clips: whole videos, every label in every split where it has enough videos."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from encoders.clips import Clip
from training.annotations.labels.pairs import stable_hash


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitShares:
    """How many of a label's videos are held out."""

    val: float = 0.15
    test: float = 0.2
    seed: int = 0
    """Another seed holds out other videos."""

    def __post_init__(self) -> None:
        if min(self.val, self.test) <= 0 or self.val + self.test >= 1:
            raise ValueError(
                f"val is {self.val} and test {self.test}; both must be above 0, and together below 1"
            )


def assign_splits(clips: Sequence[Clip], shares: SplitShares) -> tuple[list[Clip], str]:
    """The clips in their order, each labelled one with a split, and one line that says how they were assigned.

    Splits that the clips have are kept; a missing val or test is drawn out of the clips that are for training or have none. All
    clips of a video get one split, unless there are too few videos for that. Labels with one video, or clip, are only trained on.
    """
    held_out = {
        name: share
        for name, share in (("val", shares.val), ("test", shares.test))
        if not any(clip.split == name for clip in clips)
    }
    free = [c for c in clips if c.label is not None and c.split in (None, "train")]
    if not held_out:
        assigned = {clip.clip_id: "train" for clip in free}
        return _with(clips, assigned), "splits as given"
    unit, assigned = "video", _draw(free, held_out, key=_video_of, seed=shares.seed)
    if not set(held_out) <= set(assigned.values()):
        # A span that is named twice is in one split.
        first = {_span_of(clip): clip.clip_id for clip in reversed(free)}
        unit = "clip"
        assigned = _draw(free, held_out, key=lambda c: first[_span_of(c)], seed=shares.seed)
    result = _with(clips, assigned)
    counts = Counter(clip.split for clip in result if clip.split is not None)
    sizes = ", ".join(f"{counts[name]} {name}" for name in ("train", "val", "test"))
    return result, f"{sizes} clips, drawn by {unit} and label with seed {shares.seed}"


def _video_of(clip: Clip) -> str:
    return clip.video_uri


def _span_of(clip: Clip) -> tuple[object, ...]:
    """Of a clip that is a whole video, the clip itself."""
    is_whole = clip.start_s == 0 and clip.end_s is None
    return (clip.clip_id,) if is_whole else (clip.video_uri, clip.start_s, clip.end_s)


def _with(clips: Sequence[Clip], assigned: Mapping[str, str]) -> list[Clip]:
    return [replace(clip, split=assigned.get(clip.clip_id, clip.split)) for clip in clips]


def _draw(
    clips: Sequence[Clip], held_out: Mapping[str, float], *, key: Callable[[Clip], str], seed: int
) -> dict[str, str]:
    """Clip id -> split. Rare labels choose first, so that a video with several labels serves those that need it."""
    units_by_label: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        units_by_label[str(clip.label)].add(key(clip))
    split_by_unit: dict[str, str] = {}
    for label in sorted(units_by_label, key=lambda label: (len(units_by_label[label]), label)):
        units = sorted(units_by_label[label], key=lambda unit: stable_hash(seed, unit))
        undecided = [unit for unit in units if unit not in split_by_unit]
        taken = Counter(split_by_unit[unit] for unit in units if unit in split_by_unit)
        for name, share in held_out.items():
            # A label keeps at least one unit to train on before any is held out.
            wanted = max(1, round(share * len(units))) - taken[name]
            room = len(undecided) - (0 if taken["train"] else 1)
            for _ in range(min(wanted, room)):
                split_by_unit[undecided.pop()] = name
        split_by_unit |= dict.fromkeys(undecided, "train")
    return {clip.clip_id: split_by_unit[key(clip)] for clip in clips}
