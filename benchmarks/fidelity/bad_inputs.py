"""The bad inputs: a name, and a function that makes the input in an empty folder and reads it."""

import builtins
import io
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.fidelity import bad_files as good
from cluster.tables import text_table, wide_console
from encoders.clips import Clip
from training.annotations.embeddings.import_embeddings import (
    ImportEmbeddingsConfig,
    import_embeddings,
)
from training.annotations.readers.clip_table import read_clip_table
from training.annotations.readers.finediving import FineDivingFiles, read_finediving
from training.annotations.readers.finegym import FineGymFiles, GymClasses, read_finegym
from training.annotations.readers.frame_folders import pack_frames
from training.annotations.readers.rows import Problems
from training.annotations.readers.tfcovr import TfcovrFiles, read_tfcovr
from training.annotations.readers.video_folder import VideoFolder
from training.annotations.triplets.build import TripletConfig, build_triplets
from training.configs import LoopConfig
from training.recipes import RECIPES

BadInput = tuple[str, Callable[[Path], object]]


def _gym(split: str = f"{good.ELEMENT_ID} 7", *, classes: GymClasses = "gym99", categories: str | None = None, **json: object) -> Callable[[Path], object]:  # fmt: skip
    def attempt(folder: Path) -> object:
        files = FineGymFiles(
            annotations=good.finegym(folder, **json),  # pyright: ignore[reportArgumentType]
            splits={"train": good.text_file(folder, "gym99_train_element_v1.1.txt", split)},
            classes=classes,
            categories=categories
            and good.text_file(folder, f"{classes}_categories.txt", categories),  # pyright: ignore[reportArgumentType]
        )
        return read_finegym(files, VideoFolder(folder), Problems())

    return attempt


def _dives(*keys: object, frames_per_s: float | None = None, **annotation: object) -> Callable[[Path], object]:  # fmt: skip
    def attempt(folder: Path) -> object:
        files = FineDivingFiles(
            annotations=good.finediving(folder, **annotation),
            splits={
                "train": good.pickled(folder, "train_split.pkl", list(keys or [("FINA_r1", 0)]))
            },
            cut="dive" if frames_per_s is None else "competition",
            frames_per_s=frames_per_s,
        )
        return read_finediving(files, VideoFolder(folder), Problems())

    return attempt


def _train(*lines: str) -> Callable[[Path], object]:
    return lambda folder: _tfcovr(
        folder, TfcovrFiles(train=good.text_file(folder, "train.csv", *lines))
    )


def _test(*rows: str) -> Callable[[Path], object]:
    return lambda folder: _tfcovr(
        folder, TfcovrFiles(test=good.text_file(folder, "test.csv", good.TEST_HEADER, *rows))
    )


def _stage1(*lines: str) -> Callable[[Path], object]:
    return lambda folder: _tfcovr(
        folder, TfcovrFiles(stage1={"train": good.text_file(folder, "stage1.csv", *lines)})
    )


def _tfcovr(folder: Path, files: TfcovrFiles) -> object:
    return read_tfcovr(files, VideoFolder(folder), Problems())


def _table(*lines: str) -> Callable[[Path], object]:
    return lambda folder: read_clip_table(good.text_file(folder, "mine.csv", *lines), Problems())


def _stream(*values: object, cut: int | None = None) -> Callable[[Path], object]:
    def attempt(folder: Path) -> object:
        source = good.pickled(folder, "embeddings.pkl", *values)
        source.write_bytes(source.read_bytes()[:cut])
        return _convert(source)

    return attempt


def _pth(value: object, cut: int | None = None) -> Callable[[Path], object]:
    def attempt(folder: Path) -> object:
        content = io.BytesIO()
        torch.save(value, content)
        (folder / "embeddings").mkdir()
        (folder / "embeddings" / "v1.pth").write_bytes(content.getvalue()[:cut])
        return _convert(folder / "embeddings")

    return attempt


def _convert(source: Path) -> object:
    return import_embeddings(
        ImportEmbeddingsConfig(source=source, out=source.parent / "vectors.parquet")
    )


def _bytes_of_evil() -> bytes:
    content = io.BytesIO()
    torch.save(good.Calls(os.system, "true"), content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def _frames(folder: Path) -> object:
    return pack_frames(
        [good.text_file(folder, "00001.jpg", "no picture")], folder / "dive.mov", frames_per_s=30
    )


def _disagreeing_labels(_folder: Path) -> object:
    clip = Clip(clip_id="a", video_uri="/a.mp4", label="x", attributes={"twists": "1"})
    return build_triplets(
        [clip, replace(clip, clip_id="b", attributes={"twists": "2"})], TripletConfig()
    )


_LOOP = {"num_epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.0}
_VECTOR = torch.ones(4)

BAD_INPUTS: tuple[BadInput, ...] = (
    ("FineGym: cut JSON", _gym(text='{"0LtLS9wROrk": {')),
    ("FineGym: a key twice", _gym(text='{"a": {}, "a": {}}')),
    ("FineGym: a span that ends before it starts", _gym(spans=[[9.0, 3.0]])),
    ("FineGym: a span that is text", _gym(spans=[["3", "9"]])),
    ("FineGym: a span that is NaN", _gym(text='{"0LtLS9wROrk": {"E_000100_000130": {"event": 1, "timestamps": [[NaN, 1]]}}}')),
    ("FineGym: an element that is not annotated", _gym(f"{good.VIDEO}_{good.EVENT}_A_0099_0100 7")),
    ("FineGym: a class above 98", _gym(f"{good.ELEMENT_ID} 99")),
    ("FineGym: a line without class", _gym(good.ELEMENT_ID)),
    ("FineGym: an element twice", _gym(f"{good.ELEMENT_ID} 7\n{good.ELEMENT_ID} 8")),
    ("FineGym: a category without Clabel", _gym(classes="gym288", categories="0; (VT) round-off")),
    ("FineDiving: a pickle that runs a command", _dives(content=good.Calls(os.system, "true"))),
    ("FineDiving: a dive number that is none", _dives(fields={"action_type": "999Z"})),
    ("FineDiving: no action type", _dives(fields={"difficulty": 3.2})),
    ("FineDiving: a dive that is not annotated", _dives(("FINA_r1", 99))),
    ("FineDiving: a split entry that is not a dive", _dives("FINA_r1")),
    ("FineDiving: frames that run backwards", _dives(fields={"action_type": "107B", "start_frame": 80, "end_frame": 9}, frames_per_s=25.0)),
    ("TF-CoVR train: a column is missing", _train("query_video,target_video,label1,label2", "v1,v2,107b,207c")),
    ("TF-CoVR train: a row of four columns", _train(good.TRAIN_HEADER, "v1,v2,107b,207c")),
    ("TF-CoVR train: a modification that is code", _train(good.TRAIN_HEADER, good.train_row(modification="__import__('os').system('true')"))),
    ("TF-CoVR train: no sentence for label2", _train(good.TRAIN_HEADER, good.train_row(modification="{'12': {}}"))),
    ("TF-CoVR train: brackets without end", _train(good.TRAIN_HEADER, good.train_row(modification="[" * 5000))),
    ("TF-CoVR train: a label that is not released", _train(good.TRAIN_HEADER, good.train_row(label1="288"))),
    ("TF-CoVR train: a name that leads out of the folder", _train(good.TRAIN_HEADER, good.train_row(query_video="../../etc/passwd"))),
    ("TF-CoVR train: the query as its own target", _train(good.TRAIN_HEADER, good.train_row(target_video="v1"))),
    ("TF-CoVR train: one video with two labels", _train(good.TRAIN_HEADER, good.train_row(), good.train_row(label1="12"))),
    ("TF-CoVR test: targets without the row's own", _test(good.test_row(target_videos_ids="\"['v3']\""))),
    ("TF-CoVR test: targets that are not a list", _test(good.test_row(target_videos_ids="v2"))),
    ("TF-CoVR test: a query id twice", _test(good.test_row(), good.test_row())),
    ("TF-CoVR stage 1: a class index where a key must be", _stage1("video_file,label", "v1.mp4,24")),
    ("TF-CoVR stage 1: an empty file", _stage1("")),
    ("Table: a start that is not a number", _table("video_uri,start_s", "a.mp4,early")),
    ("Table: a clip that ends before it starts", _table("video_uri,start_s,end_s", "a.mp4,5,2")),
    ("Table: no column of videos", _table("clip_id,lable", "a,107b")),
    ("Table: a clip id twice", _table("video_uri,clip_id", "a.mp4,x", "b.mp4,x")),
    ("Table: a quote without end", _table("video_uri", '"a.mp4')),
    ("Frames: a file that is not a JPEG", _frames),
    ("Embeddings: a pickle that runs a command", _stream({"v1": good.Calls(os.system, "true")})),
    ("Embeddings: a pickle that evaluates text", _stream({"v1": good.Calls(builtins.eval, "1")})),
    ("Embeddings: a command inside of a storage", _stream({"v1": good.Calls(torch.storage._load_from_bytes, _bytes_of_evil())})),
    ("Embeddings: a cut stream", _stream({"v1": _VECTOR}, cut=-30)),
    ("Embeddings: a list where a dict must be", _stream([_VECTOR])),
    ("Embeddings: widths that differ", _stream({"v1": _VECTOR, "v2": torch.ones(5)})),
    ("Embeddings: a vector that is not finite", _stream({"v1": _VECTOR / 0})),
    ("Embeddings: a .pth that runs a command", _pth(good.Calls(os.system, "true"))),
    ("Embeddings: a cut .pth", _pth(_VECTOR, cut=-100)),
    ("Embeddings: a .pth of complex numbers", _pth(_VECTOR.to(torch.complex64))),
    ("Embeddings: a folder without .pth", lambda folder: _convert(folder)),
    ("Triplets: one label, two sets of attributes", _disagreeing_labels),
    ("Recipe: no epochs", lambda _: LoopConfig(**{**_LOOP, "num_epochs": 0})),
    ("Recipe: a batch of none", lambda _: LoopConfig(**{**_LOOP, "batch_size": 0})),
    ("Recipe: a negative temperature", lambda _: replace(RECIPES["demo_fusion"](), temperature=-1.0)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TriedInput:
    """What one bad input led to."""

    name: str
    error: str
    is_clear: bool
    """A ValueError that says what is wrong and where; anything else is a failure of ours."""


def try_bad_inputs() -> list[TriedInput]:
    """All of them, each in an empty folder."""
    return [try_bad_input(name, attempt) for name, attempt in BAD_INPUTS]


def try_bad_input(name: str, attempt: Callable[[Path], object]) -> TriedInput:
    """One of them. What is no ValueError is told, not raised."""
    with tempfile.TemporaryDirectory(prefix="bad-input-") as folder:
        try:
            attempt(Path(folder))
        except ValueError as error:
            message = str(error).replace(f"{folder}/", "")
            return TriedInput(name=name, error=message, is_clear=len(message) > 10)
        except Exception as error:  # noqa: BLE001 - the table must tell of it
            return TriedInput(name=name, error=repr(error), is_clear=False)
    return TriedInput(name=name, error="it was accepted", is_clear=False)


def main() -> int:
    """Prints the table; exit status 1 if an input got no clear error."""
    tried = try_bad_inputs()
    rows = [(t.name, t.error if t.is_clear else f"NOT CLEAR: {t.error}") for t in tried]
    wide_console().print(text_table(("bad input", "error"), rows))
    num_clear = sum(t.is_clear for t in tried)
    sys.stdout.write(f"{len(tried)} bad inputs, {num_clear} clear errors\n")
    return int(num_clear < len(tried))


if __name__ == "__main__":
    raise SystemExit(main())
