"""The commands that are killed, a small archive for them, and how their results are compared with those of an undisturbed run."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.dives.video import write_video
from benchmarks.harness.steps import index_command, tfcovr_command
from encoders.bundle.card import read_card
from encoders.bundle.folder import save_bundle
from encoders.clips import Clip, write_clips
from encoders.export.config import ExportConfig
from encoders.export.onnx_export import export_onnx
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.registry import build_video_encoder
from indexing.store.collection import open_collection
from training.vectors.tables import read_unit_vectors

Target = Literal["index", "vectors", "training", "milvus"]
COLLECTION = "clips"
_ENCODER = AimConfig(num_frames=4, image_size=32, patch_size=16, width=16, depth=2, num_heads=2)
_CLIP_S, _FPS, _SIZE = 0.4, 25, 48
_CLOSE = 1e-5
_NUM_EPOCHS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What a result lacks or has too much of, beside that of the undisturbed run; all 0 = the same."""

    lost: int
    """Rows, vectors or training steps that are missing."""
    doubled: int
    """Of them, those that are there more than once, or that nobody asked for."""
    wrong: int
    """Of them, those whose numbers differ."""

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            lost=self.lost + other.lost,
            doubled=self.doubled + other.doubled,
            wrong=self.wrong + other.wrong,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A table of clips of made videos, and a bundle with an untrained encoder."""

    clips: Path
    bundle: Path


def make_archive(folder: Path, *, bundle: Path, num_videos: int, seed: int) -> Archive:
    """Videos of four clips each; half of the clips train, and two labels are told by the direction of the movement."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(num_videos):
        path = folder / f"{number:03d}.mp4"
        picture = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        turn = 3 if number % 2 else -3
        frames = [np.roll(picture, turn * i, 1)[None] for i in range(round(4 * _CLIP_S * _FPS))]
        write_video(path, frames, codec="h264")
        clips += [
            Clip(
                clip_id=f"{number:03d}-{i}",
                video_uri=str(path),
                start_s=i * _CLIP_S,
                end_s=(i + 1) * _CLIP_S,
                label="right" if number % 2 else "left",
                split=("train", "train", "val", "test")[number // 2 % 4],
                attributes={"direction": "right" if number % 2 else "left"},
            )
            for i in range(4)
        ]
    write_clips(folder / "clips.parquet", clips)
    return Archive(clips=folder / "clips.parquet", bundle=bundle)


def make_bundle(folder: Path) -> Path:
    """An exported bundle of a small AIM with random weights."""
    torch.manual_seed(0)
    save_bundle(folder, video=build_video_encoder(_ENCODER).eval())
    export_onnx(ExportConfig(bundle=folder, num_clips=4))
    return folder


def job_command(target: Target, archive: Archive, place: Path) -> tuple[str, ...]:
    """The command whose results lie below `place`; `milvus` is indexing into the server of that folder, at MILVUS_URI."""
    given = ("--clips", archive.clips, "--bundle", archive.bundle)
    if target == "training":
        return tfcovr_command(
            *("train", "--recipe", "demo_actions_tiny", "--clips", archive.clips, "--quiet"),
            *("--run-dir", place / "run", "--frame-vectors-dir", place / "frame_vectors"),
            *("--no-ray", "--config.loop.num-epochs", str(_NUM_EPOCHS)),
            *("--config.loop.num-threads", "1", "--config.attributes", "direction"),
        )
    if target == "vectors":
        out = ("--out", place / "vectors.parquet", "--launch.no-show-progress")
        return tfcovr_command("vectors", *given, *out)
    return index_command(archive.bundle, archive.clips, place, "--batch-size", "2")


def difference(target: Target, archive: Archive, place: Path, reference: Path) -> Difference:
    """Of the results below `place`, from those below `reference`, where the same job was not disturbed."""
    if target == "training":
        return _of_steps(_steps(place), _steps(reference))
    if target == "vectors":
        found, expected = (read_unit_vectors(at / "vectors.parquet") for at in (place, reference))
        return of_vectors(list(found.items()), expected)
    uri = str(place / "milvus")
    found = stored_vectors(uri, COLLECTION, archive.bundle)
    return of_vectors(
        found, dict(stored_vectors(str(reference / "milvus"), COLLECTION, archive.bundle))
    )


def stored_vectors(uri: str, name: str, bundle: Path) -> list[tuple[str, np.ndarray]]:
    """(clip id, vector) of every row of a collection."""
    with open_collection(uri, name) as collection:
        collection.check(encoder_id=read_card(bundle).encoder_id)
        rows = collection.rows(("clip_id", "embedding"))
        return [(row["clip_id"], np.asarray(row["embedding"], np.float32)) for row in rows]


def of_vectors(
    found: Sequence[tuple[str, np.ndarray]], expected: Mapping[str, np.ndarray]
) -> Difference:
    """Compare (id, vector) pairs with the expected vector of each id."""
    counts = Counter(name for name, _vector in found)
    return Difference(
        lost=len(expected.keys() - counts.keys()),
        doubled=sum(n - (name in expected) for name, n in counts.items()),
        wrong=sum(
            float(np.abs(vector_D - expected[name]).max()) > _CLOSE
            for name, vector_D in found
            if name in expected
        ),
    )


def _steps(place: Path) -> list[dict[str, float]]:
    lines = (place / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _of_steps(
    found: Sequence[Mapping[str, float]], expected: Sequence[Mapping[str, float]]
) -> Difference:
    def key(line: Mapping[str, float]) -> tuple[float, float]:
        return line["step"], line.get("epoch", -1)

    counts, wanted = Counter(map(key, found)), {key(line): line for line in expected}
    return Difference(
        lost=len(wanted.keys() - counts.keys()),
        doubled=sum(n - (name in wanted) for name, n in counts.items()),
        wrong=sum(
            not np.isclose(line[name], wanted[key(line)].get(name, np.nan), rtol=1e-6)
            for line in found
            for name in line.keys() & {"loss", "val_top1"}
            if key(line) in wanted
        ),
    )
