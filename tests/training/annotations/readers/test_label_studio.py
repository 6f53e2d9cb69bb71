import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.dives.video import FPS, write_video
from encoders.clips import Clip
from training.annotations.readers.label_studio import ImportLabelStudio, read_label_studio
from training.annotations.readers.rows import Problems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b b.mp4"):
        (tmp_path / "videos" / name).touch()
    return tmp_path


def region(start: int, end: int, *labels: str, **values) -> dict:
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}
    return {"type": "timelinelabels", "value": value} | values


def task(*regions: dict, video: str = "a.mp4", **data) -> dict:
    return {"data": {"video": video} | data, "annotations": [{"result": list(regions)}]}


def read(folder: Path, tasks: object, **options) -> list[Clip]:
    path = folder / "tasks.json"
    path.write_text(json.dumps(tasks))
    config = ImportLabelStudio(
        annotations=path, videos=str(folder / "videos"), out=folder / "c.parquet", **options
    )
    return read_label_studio(config, Problems())


def test_regions_count_frames_from_one_and_hold_both_ends(folder: Path) -> None:
    tasks = [
        task(region(1, 25, "103b", id="r1"), region(26, 26, "x"), fps=25.0),
        task(region(51, 100, "x"), video="/data/local-files/?d=b%20b.mp4"),
        task(region(1, 2, "x"), video="/data/upload/3/1a2b3c4d-b%20b.mp4"),
    ]
    clips = read(folder, tasks, frames_per_s=50.0, split="train")
    assert [(c.clip_id, c.start_s, c.end_s, c.label, Path(c.video_uri).name) for c in clips[:3]] == [
        ("r1", 0.0, 1.0, "103b", "a.mp4"),
        ("a.mp4@1.000-1.040", 1.0, 1.04, "x", "a.mp4"),
        ("b b.mp4@1.000-2.000", 1.0, 2.0, "x", "b b.mp4"),
    ]  # fmt: skip
    assert clips[3].clip_id == "b b.mp4@0.000-0.040"


def test_a_region_id_is_of_one_clip(folder: Path) -> None:
    tasks = [task(region(1, 2, "x", id="r"), fps=25)] * 2
    with pytest.raises(ValueError, match="task 1: region id 'r' occurs twice"):
        read(folder, tasks)


def test_choices_of_a_region_do_not_make_it_two(folder: Path) -> None:
    choice = {"type": "choices", "id": "r", "from_name": "score", "value": {"choices": ["good"]}}
    clips = read(folder, [task(region(1, 2, "x", id="r"), choice, fps=25)])
    assert [(clip.clip_id, clip.label) for clip in clips] == [("r", "x")]
    # An id that is no text is its text, as before.
    assert read(folder, [task(region(1, 2, "x", id=["r"]), fps=25)])[0].clip_id == "['r']"


@pytest.mark.parametrize("fps", [True, "50", 0])
def test_a_frame_rate_that_is_none_is_named(folder: Path, fps: object) -> None:
    with pytest.raises(ValueError, match="fps is"):
        read(folder, [task(region(1, 2, "x"), fps=fps)])


def test_the_short_form_choices_and_the_last_annotation_count(folder: Path) -> None:
    short = {"video": "a.mp4", "tricks": [{"ranges": [{"start": 1, "end": 10}], "timelinelabels": ["x"]}]}  # fmt: skip
    chosen = {"type": "choices", "value": {"choices": ["y"]}}
    answers = [{"result": [region(1, 5, "old")]}, {"result": [chosen]}, {"result": [], "was_cancelled": True}]  # fmt: skip
    long = {"data": {"video": "b b.mp4"}, "annotations": answers}
    clips = read(folder, [short, long], frames_per_s=10)
    assert [(c.label, c.start_s, c.end_s) for c in clips] == [("x", 0.0, 1.0), ("y", 0.0, None)]


def test_the_rate_of_the_video_is_read_where_nobody_names_one(folder: Path) -> None:
    write_video(folder / "videos" / "a.mp4", [np.zeros((40, 32, 32, 3), np.uint8)], codec="h264")
    (clip,) = read(folder, [task(region(11, 20, "x"))])
    assert (clip.start_s, clip.end_s) == pytest.approx((10 / FPS, 20 / FPS))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "a list of tasks"),
        ([5], "task 0: it is a int"),
        ([{"data": {}}], "names no `video`"),
        ([task(region(1, 2, "x"), video="c.mp4", fps=25)], "'c.mp4' is not among"),
        ([task(region(0, 2, "x"), fps=25)], "1 <= start <= end"),
        ([task(region(3, 2, "x"), fps=25)], "1 <= start <= end"),
        ([task(region(1, 2, "x", "y"), fps=25)], "must have one"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, tasks: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(folder, tasks)
