"""A small archive of real MP4 files whose classes are told by the order of colours."""

from pathlib import Path

import av
import numpy as np
import pytest

from encoders.clips import Clip, write_clips
from training.annotations.triplets.table import Triplet, write_triplets

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}
CLASSES = (("red", "green"), ("green", "red"), ("blue", "green"))


def write_video(path: Path, colours: tuple[str, ...], rng: np.random.Generator, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for number in range(16):
            colour = COLOURS[colours[number * len(colours) // 16]]
            picture = np.clip(rng.normal(colour, 12.0, (48, 48, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make_archive(folder: Path, *, per_class: int = 8, codec: str = "libx264") -> Path:
    """clips.parquet and triplets.parquet; half of the clips train, a quarter each val and test."""
    rng = np.random.default_rng(0)
    suffix = "mp4" if codec == "libx264" else "webm"
    clips: list[Clip] = []
    for colours in CLASSES:
        for number in range(per_class):
            name = f"{'-'.join(colours)}-{number}"
            write_video(folder / f"{name}.{suffix}", colours, rng, codec)
            clips.append(
                Clip(
                    clip_id=name,
                    video_uri=str(folder / f"{name}.{suffix}"),
                    label="-".join(colours),
                    split=("train", "train", "val", "test")[number % 4],
                    attributes={"first": colours[0], "last": colours[-1]},
                )
            )
    write_clips(folder / "clips.parquet", clips)
    write_triplets(folder / "triplets.parquet", list(make_triplets(clips)))
    return folder


def make_triplets(clips: list[Clip]):
    for query in clips:
        for label in sorted({clip.label for clip in clips} - {query.label}):
            targets = [c.clip_id for c in clips if c.label == label and c.split == query.split]
            yield Triplet(
                query_id=f"{query.clip_id}->{label}",
                query_clip_id=query.clip_id,
                edit_text=f"the one that is {label.replace('-', ' then ')}",
                target_clip_ids=tuple(targets),
                source_label=query.label,
                target_label=label,
                split=query.split,
            )


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def vp9_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("vp9"), per_class=4, codec="libvpx-vp9")
