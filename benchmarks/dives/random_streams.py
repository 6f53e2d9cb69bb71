"""Where randomness comes from: one generator for each (seed, split, index, purpose).

No stream knows a class: how a clip looks and how it is paced cannot tell what dive it shows. Splits are disjoint streams;
`pretrain` belongs to the pretraining of image backbones and to no archive.
"""

import hashlib
from typing import Literal, get_args

import numpy as np

Split = Literal["train", "val", "test", "pretrain"]
Purpose = Literal[
    "execution", "diver", "camera", "pool", "splash", "noise", "broadcast", "television"
]

SPLITS: tuple[str, ...] = get_args(Split)


def open_stream(*, seed: int, split: str, index: int, purpose: Purpose) -> np.random.Generator:
    """The generator that draws `purpose` for clip `index` of a split."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
    key = hashlib.blake2b(f"dives/{seed}/{split}/{index}/{purpose}".encode(), digest_size=16)
    return np.random.default_rng(int.from_bytes(key.digest(), "big"))


def clip_index(label: str, ordinal: int) -> int:
    """A number for the ordinal-th clip of a class: no two clips of an archive share their streams, and adding classes or clips
    to an archive changes none that is there."""
    key = hashlib.blake2b(f"{label}/{ordinal}".encode(), digest_size=6)
    return int.from_bytes(key.digest(), "big")
