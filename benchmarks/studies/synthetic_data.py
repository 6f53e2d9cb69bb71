"""Made-up data that only clip and text together can answer, in the shape of TF-CoVR: vectors in clusters, edits between clusters.

A label is an action and a count. Its clips lie around the sum of two random directions, one of the action and one of the count;
an edit asks for another count of the same action. So the text tells the count and only the clip tells the action.
"""

import csv
import pickle  # noqa: TID251  # the released format is written here, never read
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from training.annotations.labels.names import released_labels
from training.annotations.triplets.table import Triplet

_VECTORS_PER_DICT = 2500

_COUNTS = ("0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4")
_SENTENCES = ("show with {} turns", "now do it with {} turns", "the same with {} turns instead")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnableSize:
    """How much is made; of every ten clips and triplets the last two are val and test."""

    num_clips: int = 10_000
    num_triplets: int = 2_000
    num_actions: int = 38
    """Times 8 counts they make the labels, for which there are 306 released keys."""
    vector_dim: int = 768
    noise: float = 0.5
    """Length of a clip's own part over that of its action's and of its count's."""
    seed: int = 0

    def __post_init__(self) -> None:
        most = len(released_labels()) // len(_COUNTS)
        if not 1 <= self.num_actions <= most or min(self.num_clips, self.num_triplets) < 10:
            raise ValueError(
                f"num_actions is {self.num_actions} (1 to {most}), num_clips {self.num_clips} and num_triplets "
                f"{self.num_triplets} (10 or more)"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnableData:
    """Rows of the vectors belong to the clip ids."""

    clip_ids: tuple[str, ...]
    vectors_ND: np.ndarray
    """float32, not of unit length, as released embeddings are."""
    triplets: tuple[Triplet, ...]


def make_learnable_data(size: LearnableSize) -> LearnableData:
    """The same data for the same size."""
    rng = np.random.default_rng(size.seed)
    actions_AD = rng.standard_normal((size.num_actions, size.vector_dim))
    counts_CD = rng.standard_normal((len(_COUNTS), size.vector_dim))
    action_N = rng.integers(size.num_actions, size=size.num_clips)
    count_N = rng.integers(len(_COUNTS), size=size.num_clips)
    noise_ND = size.noise * rng.standard_normal((size.num_clips, size.vector_dim))
    vectors_ND = (actions_AD[action_N] + counts_CD[count_N] + noise_ND).astype(np.float32)
    split_N = np.resize(["train"] * 8 + ["val", "test"], size.num_clips)
    ids = tuple(f"clip_{n:05d}" for n in range(size.num_clips))
    clips_by_label: dict[tuple[str, int, int], list[int]] = {}
    for n in range(size.num_clips):
        key = (str(split_N[n]), int(action_N[n]), int(count_N[n]))
        clips_by_label.setdefault(key, []).append(n)
    triplets = tuple(
        _triplet(number, ids, clips_by_label, rng, split)
        for number, split in enumerate(
            np.resize(["train"] * 8 + ["val", "test"], size.num_triplets).tolist()
        )
    )
    return LearnableData(clip_ids=ids, vectors_ND=vectors_ND, triplets=triplets)


def _triplet(
    number: int,
    ids: Sequence[str],
    clips_by_label: dict[tuple[str, int, int], list[int]],
    rng: np.random.Generator,
    split: str,
) -> Triplet:
    """An edit from one count to another that clips of the split show; ValueError where there are too few clips."""
    keys = sorted(key for key in clips_by_label if key[0] == split)
    if len({key[:2] for key in keys}) == len(keys):
        raise ValueError(f"{len(ids)} clips are too few: no action of {split!r} has two counts")
    while True:
        source = keys[rng.integers(len(keys))]
        target = (source[0], source[1], int(rng.integers(len(_COUNTS))))
        if target != source and target in clips_by_label:
            break
    targets = clips_by_label[target]
    chosen = rng.permutation(targets) if split != "train" else rng.permutation(targets)[:1]
    sentence = _SENTENCES[rng.integers(len(_SENTENCES))]
    return Triplet(
        query_id=f"{split}_{number:06d}",
        query_clip_id=ids[int(rng.choice(clips_by_label[source]))],
        edit_text=sentence.format(_COUNTS[target[2]]),
        target_clip_ids=tuple(ids[int(n)] for n in chosen),
        source_label=_label_key(source[1], source[2]),
        target_label=_label_key(target[1], target[2]),
        split=split,
    )


def _label_key(action: int, count: int) -> str:
    return list(released_labels())[action * len(_COUNTS) + count]


def write_released(
    folder: Path, data: LearnableData, *, embeddings: Literal["pickle", "pth"] = "pickle"
) -> None:
    """The files that a user of TF-CoVR has: three CSV, and a stream of pickled dicts or a folder of `.pth` files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        rows = [
            _train_row(triplet) if split == "train" else _query_row(triplet)
            for triplet in data.triplets
            if triplet.split == split
        ]
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    vectors = dict(zip(data.clip_ids, torch.from_numpy(data.vectors_ND), strict=True))
    names = list(vectors)
    if embeddings == "pth":
        (folder / "embeddings").mkdir()
        for name in names:
            torch.save(vectors[name].clone(), folder / "embeddings" / f"{name}.pth")
        return
    with (folder / "embeddings.pkl").open("wb") as file:
        for start in range(0, len(names), _VECTORS_PER_DICT):
            part = names[start : start + _VECTORS_PER_DICT]
            pickle.dump({name: vectors[name].clone() for name in part}, file)


def _train_row(triplet: Triplet) -> dict[str, str]:
    return {
        "query_video": triplet.query_clip_id,
        "target_video": triplet.target_clip_ids[0],
        "label1": str(triplet.source_label),
        "label2": str(triplet.target_label),
        "modification": repr({triplet.target_label: {"modification": triplet.edit_text}}),
    }


def _query_row(triplet: Triplet) -> dict[str, str]:
    return {
        "query_id": triplet.query_id,
        "query_video": triplet.query_clip_id,
        "target_video": triplet.target_clip_ids[0],
        "modification": triplet.edit_text,
        "target_videos_ids": repr(list(triplet.target_clip_ids)),
    }
