"""What can happen to an indexing run, drawn from a seed, and the archive that it happens to."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.clips import read_clips
from tests.support import small_videos
from tests.support.expected_vectors import expected_vectors

KINDS = ("driver", "worker", "milvus", "cut", "raylet", "disk", "videos")
"""What is killed; cut = Milvus cannot be reached for 20 s; disk = the run folder is full; videos = no video can be fetched for 20 s."""
MOMENTS = {"plan": None, "start": None, "early": 0.0, "middle": 0.4, "late": 0.8, "end": 1.0}
"""Shares of the clips that are in the ledger by then; plan = before Ray, start = as the workers start, end = flush, index, summary."""
_WHILE_WORKING = ("start", "early", "middle", "late")
_WHILE_FETCHING = ("start", "early", "middle")
"""Of these, for kind videos and a fetch worker, the shares are of the videos that were asked for."""
_WHILE_DECODING = ("start",)
"""The ledger is seconds behind the decoders: by its middle they may all be done, and nobody is left to kill."""
NUM_VIDEOS, CLIPS_PER_VIDEO = 40, 8
CHILD = "sandbox.worker"
NUM_CLIPS = NUM_VIDEOS * CLIPS_PER_VIDEO


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What happens to one indexing run."""

    seed: int
    kind: str
    moment: str
    while_fetching: bool
    """The moment is one of fetching, not of the ledger."""
    shares_device: bool
    """Whether the workers that decode are those that encode."""
    is_remote: bool
    """Videos come over HTTP."""
    has_server: bool
    """Milvus is a standalone server, not Milvus Lite."""
    victim: str
    """What is killed, of kind worker: a stage's worker, or the process in which a worker decodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultResult:
    """What a rerun could not mend is in lost, doubled and wrong."""

    fault: Fault
    num_runs: int
    struck: bool
    """It came in time: somebody was killed, a connection broke, a write failed."""
    is_hung: bool
    lost: int
    doubled: int
    stale: int
    wrong_vectors: int

    @property
    def is_right(self) -> bool:
        return not (self.is_hung or self.lost or self.doubled or self.stale or self.wrong_vectors)


def fault_of_seed(seed: int) -> Fault:
    """Each kind in turn; everything else at random."""
    draw = random.Random(f"fault {seed}")
    kind = KINDS[seed % len(KINDS)]
    shares_device = draw.random() < 0.7
    is_remote = kind == "videos" or draw.random() < 0.4
    stages: list[str] = ["decode_embed", "write"] if shares_device else ["decode", "embed", "write"]
    victims = [*stages, *(["fetch"] if is_remote else []), CHILD]
    victim = draw.choice(victims)
    moments = tuple(MOMENTS)
    while_fetching = kind == "videos" or (kind == "worker" and victim == "fetch")
    if while_fetching:
        moments = _WHILE_FETCHING
    elif kind == "worker":
        moments = _WHILE_DECODING if victim == CHILD else _WHILE_WORKING
    return Fault(
        seed=seed,
        kind=kind,
        moment=draw.choice(moments),
        while_fetching=while_fetching,
        shares_device=shares_device,
        is_remote=is_remote,
        has_server=kind != "disk" and draw.random() < (0.5 if kind == "milvus" else 0.15),
        victim=victim,
    )


def write_archive(folder: Path) -> Path:
    """Forty videos of eight clips."""
    return small_videos.write_archive(
        folder, num_videos=NUM_VIDEOS, clips_per_video=CLIPS_PER_VIDEO
    )


def expected_of_clips(bundle_dir: Path, clips: Path) -> dict[str, np.ndarray]:
    """Clip id -> vector: a key says too where its video came from."""
    by_key = expected_vectors(bundle_dir, clips)
    return dict(zip((clip.clip_id for clip in read_clips(clips)), by_key.values(), strict=True))
